// R1: a pool serves its own stream only.
// Instead: `b.with_pool()`.
use tidelock::{Ctx, DeviceLocation};

pub fn scratch<A: DeviceLocation, B: DeviceLocation>(a: Ctx<'_, A>, b: Ctx<'_, B>) {
    let _ctx = b.with_device_alloc(a.pool());
}

fn main() {}
