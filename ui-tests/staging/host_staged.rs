// R3: only page-locked memory can be staged.
// Instead: fill `ctx.alloc_pinned::<u32>(n)?` and stage that, or `ctx.upload(&tokens, device)`.
use tidelock::{Buffer, Ctx, DeviceLocation, location::Host, stream::Staged};

pub fn send<L: DeviceLocation>(ctx: Ctx<'_, L>, tokens: Buffer<u32, Host>) -> Buffer<u32, Staged<L>> {
    tokens.stage(&ctx)
}

fn main() {}
