// R1: a stream uses its own memory, not another stream's.
// Instead: allocate the source on stream `B`, hand it over with `a.transfer(source, &b)`, or `a.lend(source.view(), &b, ..)`.
use tidelock::{Ctx, DeviceLocation, Result};

pub fn exchange<A: DeviceLocation, B: DeviceLocation>(a: Ctx<'_, A>, b: Ctx<'_, B>) -> Result<()> {
    let source = a.with_pool().zeros::<f32>(8)?;
    let mut target = b.with_pool().zeros::<f32>(8)?;
    b.copy(source.view(), target.view_mut())
}

fn main() {}
