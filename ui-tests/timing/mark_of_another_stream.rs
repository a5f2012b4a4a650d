// R1: the time between two points is that of one stream.
// Instead: mark both points on the same stream; two streams have no order but by events.
use tidelock::{Ctx, DeviceLocation, Result};

pub fn time<A: DeviceLocation, B: DeviceLocation>(a: Ctx<'_, A>, b: Ctx<'_, B>) -> Result<()> {
    let start = a.mark()?;
    let _span = b.elapsed_since(start)?;
    Ok(())
}

fn main() {}
