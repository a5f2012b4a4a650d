// R10: a layer that allocates is called with a context that has an allocator.
// Instead: `layer(&ctx.with_pool())`.
use tidelock::{Ctx, DeviceLocation, Result, stream::HasAlloc};

fn layer<L: DeviceLocation, A: HasAlloc<L>>(ctx: &Ctx<'_, L, A>) -> Result<()> {
    ctx.zeros::<f32>(8).map(drop)
}

pub fn forward<L: DeviceLocation>(ctx: Ctx<'_, L>) -> Result<()> {
    layer(&ctx)
}

fn main() {}
