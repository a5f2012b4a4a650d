// R8: the stream that uses the memory records the event.
// Instead: fence on a context of stream `A`.
use tidelock::{Buffer, Ctx, DeviceLocation, Error, Staged};

pub fn fetch<A: DeviceLocation, B: DeviceLocation>(b: Ctx<'_, B>, tokens: Buffer<u32, Staged<A>>) -> Result<u32, Error> {
    let pending = b.fence(tokens)?;
    Ok(pending.wait()?[0])
}

fn main() {}
