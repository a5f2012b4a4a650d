// R8: what is fenced is out of reach until `wait` gives it back.
// Instead: enqueue the copy before the fence.
use tidelock::{Buffer, Ctx, DeviceLocation, Error, View, stream::Staged};

pub fn fetch<L: DeviceLocation>(
    ctx: Ctx<'_, L>,
    mut tokens: Buffer<u32, Staged<L>>,
    device: View<'_, u32, L>,
) -> Result<u32, Error> {
    let pending = ctx.fence(tokens)?;
    ctx.copy(device, tokens.view_mut())?;
    Ok(pending.wait()?[0])
}

fn main() {}
