// R3: staged memory belongs to its stream already.
// Instead: use it as it is; for another stream, `reclaim` it first.
use tidelock::{Buffer, Ctx, DeviceLocation, stream::Staged};

pub fn send<L: DeviceLocation>(ctx: Ctx<'_, L>, tokens: Buffer<u32, Staged<L>>) -> Buffer<u32, Staged<L>> {
    tokens.stage(&ctx)
}

fn main() {}
