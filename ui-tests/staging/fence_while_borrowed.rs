// R8: no view of a buffer survives its fence.
// Instead: let the view end before the fence.
use tidelock::{Buffer, Ctx, DeviceLocation, Error, ViewMut, stream::Staged};

pub fn fetch<L: DeviceLocation>(
    ctx: Ctx<'_, L>,
    tokens: Buffer<u32, Staged<L>>,
    device: ViewMut<'_, u32, L>,
) -> Result<u32, Error> {
    let view = tokens.view();
    let pending = ctx.fence(tokens)?;
    ctx.copy(view, device)?;
    Ok(pending.wait()?[0])
}

fn main() {}
