// R2: only the stream that uses the memory can say that it has finished.
// Instead: `a.synchronize()`.
use tidelock::{Buffer, DeviceLocation, Result, Stream, stream::Staged};

pub fn finish<A: DeviceLocation, B: DeviceLocation>(tokens: Buffer<u32, Staged<A>>, b: &mut Stream<B>) -> Result<u32> {
    let done = b.synchronize()?;
    Ok(tokens.peek(&done).iter().sum())
}

fn main() {}
