// R3: `stage` moves the memory into what it returns.
// Instead: `let tokens = tokens.stage(&ctx)`.
#![deny(unused_must_use)]
use tidelock::{Buffer, Ctx, DeviceLocation};

pub fn send<L: DeviceLocation>(ctx: Ctx<'_, L>, tokens: Buffer<u32, L::Pinned>) {
    tokens.stage(&ctx);
}

fn main() {}
