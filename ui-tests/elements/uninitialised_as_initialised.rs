// R6: initialisation is in the type.
// Instead: `ctx.zeros::<u32>(8)`, or `ctx.init_from(ctx.alloc(8)?, source)`.
use tidelock::{Buffer, Ctx, DeviceLocation, Result, stream::StreamAlloc};

pub fn scratch<L: DeviceLocation>(ctx: Ctx<'_, L, StreamAlloc<L>>) -> Result<Buffer<u32, L>> {
    ctx.alloc::<u32>(8)
}

fn main() {}
