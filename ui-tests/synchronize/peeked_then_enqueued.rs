// R2: what was looked at through a `Synced` is not looked at any more once the stream goes on.
// Instead: copy the elements out (`to_vec`), or use them before the next `stream.ctx()`.
use tidelock::{Buffer, DeviceLocation, Result, Stream, stream::Staged};

pub fn sum<L: DeviceLocation>(mut stream: Stream<L>, tokens: Buffer<u32, Staged<L>>) -> Result<u32> {
    let done = stream.synchronize()?;
    let seen = tokens.peek(&done);
    let _ctx = stream.ctx();
    Ok(seen.iter().sum())
}

fn main() {}
