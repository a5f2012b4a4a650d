// R3: staged memory is freed once its stream has passed it, and the free of an arena cannot be deferred.
// Instead: `ctx.plain().alloc_pinned::<T>(len)?.stage(&ctx)`.
use tidelock::{Ctx, DeviceLocation, Result, Stack};

pub fn upload<L: DeviceLocation>(ctx: Ctx<'_, L>, arena: &Stack<L::Pinned>) -> Result<()> {
    let ctx = ctx.with_pinned_alloc(arena);
    let _tokens = ctx.alloc_pinned::<u32>(8)?.stage(&ctx);
    Ok(())
}

fn main() {}
