// R2: nothing can be enqueued while a `Synced` lives.
// Instead: ask for the context after the last use of `done`.
use tidelock::{Buffer, DeviceLocation, Result, Stream, stream::Staged};

pub fn finish<L: DeviceLocation>(mut stream: Stream<L>, mut tokens: Buffer<u32, Staged<L>>) -> Result<u32> {
    let done = stream.synchronize()?;
    stream.ctx().clear(tokens.view_mut())?;
    Ok(tokens.peek(&done).iter().sum())
}

fn main() {}
