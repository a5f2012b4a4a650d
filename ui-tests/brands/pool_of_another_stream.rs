// R1: a pool serves its own stream only.
// Instead: `b.with_pool()`.
use tidelock::{Ctx, DeviceLocation, Result};

pub fn scratch<A: DeviceLocation, B: DeviceLocation>(a: Ctx<'_, A>, b: Ctx<'_, B>) -> Result<()> {
    let ctx = b.with_device_alloc(a.pool());
    ctx.device::<f32>(8).map(drop)
}

fn main() {}
