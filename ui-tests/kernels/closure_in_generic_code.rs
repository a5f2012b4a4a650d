// R9: not every backend runs closures, so that generic code says that it needs one that does.
// Instead: `where StreamOf<L::Backend>: HostFns`, or take the kernel as a parameter.
use tidelock::{Ctx, DeviceLocation, Result, ViewMut};

pub fn fill<L: DeviceLocation>(ctx: &Ctx<'_, L>, x: ViewMut<'_, u32, L>) -> Result<()> {
    ctx.launch((x, 7_u32), |(x, value)| x.fill(value))
}

fn main() {}
