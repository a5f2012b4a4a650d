// R3: a context may replace its pinned allocator, whose memory cannot be staged.
// Instead: `ctx.plain().alloc_pinned::<T>(len)?.stage(ctx)`.
use tidelock::{Ctx, DeviceLocation, Result, stream::HasAlloc};

pub fn upload<L: DeviceLocation, A: HasAlloc<L> + HasAlloc<L::Pinned>>(ctx: &Ctx<'_, L, A>) -> Result<()> {
    let _tokens = ctx.alloc_pinned::<u32>(8)?.stage(ctx);
    Ok(())
}

fn main() {}
