// R10: an allocator serves the location that it is written for.
// Instead: `ctx.with_host_alloc(&arena)`, or an arena of pinned memory, `Stack<L::Pinned>`.
use tidelock::{Ctx, DeviceLocation, Result, Stack, location::Host};

pub fn step<L: DeviceLocation>(ctx: Ctx<'_, L>, arena: &Stack<Host>) -> Result<usize> {
    Ok(ctx.with_pinned_alloc(arena).alloc_pinned::<u32>(8)?.len())
}

fn main() {}
