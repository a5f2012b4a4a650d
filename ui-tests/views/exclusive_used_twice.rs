// R17: an exclusive view is not `Copy`; cutting it or passing it on consumes it.
// Instead: `ctx.clear(tokens.reborrow())`.
use tidelock::{Ctx, DeviceLocation, Result, View, ViewMut};

pub fn twice<L: DeviceLocation>(ctx: Ctx<'_, L>, tokens: ViewMut<'_, u32, L>, source: View<'_, u32, L>) -> Result<()> {
    ctx.clear(tokens)?;
    ctx.copy(source, tokens)
}

fn main() {}
