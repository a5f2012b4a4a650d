// R1: memory leaves its stream behind the work of that stream.
// Instead: `a.detach(x)`, with a context of the stream of `x`.
use tidelock::{Buffer, Ctx, DeviceLocation, Result};

pub fn take<A: DeviceLocation, B: DeviceLocation>(b: Ctx<'_, B>, x: Buffer<u32, A>) -> Result<()> {
    drop(b.detach(x)?);
    Ok(())
}

fn main() {}
