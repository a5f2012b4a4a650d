// R3: what is staged is pinned memory of the default allocator.
// Instead: allocate `tokens` with `ctx.alloc_pinned::<u32>(n)`.
use tidelock::{Buffer, Ctx, location::Host, sim::Sim};

pub fn send<'s>(ctx: Ctx<'_, Sim<'s>>, tokens: Buffer<u32, Host>) {
    drop(tokens.stage(&ctx));
}

fn main() {}
