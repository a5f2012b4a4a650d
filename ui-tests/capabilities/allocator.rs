// R10: an allocator serves its own location.
// Instead: `ctx.with_device_alloc(ctx.pool())`, which is `ctx.with_pool()`.
use tidelock::{Ctx, DeviceLocation, Result, alloc::PinnedAlloc};

pub fn scratch<L: DeviceLocation>(ctx: Ctx<'_, L>) -> Result<()> {
    let _ctx = ctx.with_device_alloc(PinnedAlloc::<L::Backend>::new());
    Ok(())
}

fn main() {}
