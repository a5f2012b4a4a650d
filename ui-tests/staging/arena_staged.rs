// R3: only memory of the default pinned allocator can be staged; an arena would hand it out again too early.
// Instead: allocate with `ctx.alloc_pinned::<u32>(n)`, which comes from the process-wide pool.
use tidelock::{Buffer, Ctx, DeviceLocation, Stack, location::Pinned, stream::Staged};

pub fn send<L: DeviceLocation>(
    ctx: Ctx<'_, L>,
    tokens: Buffer<u32, Pinned<L::Backend>, &Stack<Pinned<L::Backend>>>,
) -> Buffer<u32, Staged<L>> {
    tokens.stage(&ctx)
}

fn main() {}
