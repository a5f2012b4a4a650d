// R3: no reference into the memory survives `stage`.
// Instead: end the borrow before `stage`.
use tidelock::{Buffer, Ctx, DeviceLocation, location::Pinned, stream::Staged};

pub fn send<L: DeviceLocation>(ctx: Ctx<'_, L>, tokens: Buffer<u32, Pinned<L::Backend>>) -> Buffer<u32, Staged<L>> {
    let first = &tokens[0];
    let staged = tokens.stage(&ctx);
    assert_ne!(*first, 0);
    staged
}

fn main() {}
