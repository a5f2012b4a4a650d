// R2: the elements are visible for as long as the `Synced` lives.
// Instead: `let done = stream.synchronize()?; let seen = tokens.peek(&done);`
use tidelock::{Buffer, DeviceLocation, Result, Stream, stream::Staged};

pub fn sum<L: DeviceLocation>(mut stream: Stream<L>, tokens: Buffer<u32, Staged<L>>) -> Result<u32> {
    let seen = tokens.peek(&stream.synchronize()?);
    Ok(seen.iter().sum())
}

fn main() {}
