// R3: a stream uses pinned memory only after it was handed over.
// Instead: `let tokens = tokens.stage(&ctx); ctx.copy(tokens.view(), device)`.
use tidelock::{Buffer, Ctx, DeviceLocation, Result, ViewMut};

pub fn send<L: DeviceLocation>(
    ctx: Ctx<'_, L>,
    tokens: &Buffer<u32, L::Pinned>,
    device: ViewMut<'_, u32, L>,
) -> Result<()> {
    ctx.copy(tokens.view(), device)
}

fn main() {}
