// R3: `stage` takes the memory away from the host.
// Instead: write it before `stage`, or get it back with `reclaim`.
use tidelock::{Buffer, Ctx, DeviceLocation, Result, ViewMut};

pub fn send<L: DeviceLocation>(
    ctx: Ctx<'_, L>,
    mut tokens: Buffer<u32, L::Pinned>,
    device: ViewMut<'_, u32, L>,
) -> Result<()> {
    let staged = tokens.stage(&ctx);
    tokens.view_mut().into_slice()[0] = 7;
    ctx.copy(staged.view(), device)
}

fn main() {}
