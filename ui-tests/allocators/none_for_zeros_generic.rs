// R10: a layer that allocates says so in its signature.
// Instead: `fn layer<L: DeviceLocation, A: HasAlloc<L>>(ctx: &Ctx<'_, L, A>)`.
use tidelock::{Ctx, DeviceLocation, Result};

pub fn layer<L: DeviceLocation, A: Copy>(ctx: &Ctx<'_, L, A>) -> Result<()> {
    let _logits = ctx.zeros::<f32>(8)?;
    Ok(())
}

fn main() {}
