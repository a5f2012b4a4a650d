// R8: a fence takes its buffers by value, so that nothing can use them behind it.
// Instead: `ctx.fence(tokens)`.
use tidelock::{Buffer, Ctx, DeviceLocation, stream::Staged};

pub fn fetch<L: DeviceLocation>(ctx: Ctx<'_, L>, tokens: Buffer<u32, Staged<L>>) {
    let _pending = ctx.fence(&tokens);
}

fn main() {}
