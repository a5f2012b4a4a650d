// R6: uninitialised memory is not a source.
// Instead: `let scratch = ctx.init_zeros(ctx.alloc::<u32>(8)?)?;`, or `ctx.zeros::<u32>(8)?`.
use tidelock::{Ctx, DeviceLocation, Result, ViewMut};

pub fn send<L: DeviceLocation>(ctx: Ctx<'_, L>, target: ViewMut<'_, u32, L>) -> Result<()> {
    let scratch = ctx.with_pool().alloc::<u32>(8)?;
    ctx.copy(scratch.view(), target)
}

fn main() {}
