// R3: pinned memory is staged for a stream of its own backend.
// Instead: allocate it with `ctx.alloc_pinned::<u32>(n)`, which is always of the right backend.
use tidelock::{Buffer, Ctx, DeviceLocation, driver::Backend, location::Pinned, stream::Staged};

pub fn send<B: Backend, L: DeviceLocation>(ctx: Ctx<'_, L>, tokens: Buffer<u32, Pinned<B>>) -> Buffer<u32, Staged<L>> {
    tokens.stage(&ctx)
}

fn main() {}
