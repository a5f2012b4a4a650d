// R2: a `Synced` keeps the stream borrowed.
// Instead: pass one `&done` to both.
use tidelock::{Buffer, DeviceLocation, Result, Stream, stream::Staged};

pub fn both<L: DeviceLocation>(
    mut stream: Stream<L>,
    first: Buffer<u32, Staged<L>>,
    second: Buffer<u32, Staged<L>>,
) -> Result<u32> {
    let done = stream.synchronize()?;
    let again = stream.synchronize()?;
    Ok(first.peek(&done).len().max(second.peek(&again).len()).try_into().unwrap_or(0))
}

fn main() {}
