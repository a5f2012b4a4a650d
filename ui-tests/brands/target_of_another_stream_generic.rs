// R1: a stream writes its own memory, not another stream's.
// Instead: enqueue the fill on stream `A`, whose memory it is.
use tidelock::{Ctx, DeviceLocation, Result};

pub fn reset<A: DeviceLocation, B: DeviceLocation>(a: Ctx<'_, A>, b: Ctx<'_, B>) -> Result<()> {
    let mut target = a.with_pool().zeros::<f32>(8)?;
    b.clear(target.view_mut())
}

fn main() {}
