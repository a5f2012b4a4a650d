// R17: a view owns nothing, and cannot leave its stream.
// Instead: detach the buffer, or lend the view with `ctx.lend(..)`.
use tidelock::{Ctx, DeviceLocation, Result, View};

pub fn leave<L: DeviceLocation>(ctx: Ctx<'_, L>, x: View<'_, u32, L>) -> Result<()> {
    drop(ctx.detach(x)?);
    Ok(())
}

fn main() {}
