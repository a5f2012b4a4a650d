// R6: pinned memory is the host's until it is staged.
// Instead: `ctx.alloc_pinned::<u32>(len)?.stage(&ctx)`.
use tidelock::{Ctx, DeviceLocation, Error, Result};

pub fn page<L: DeviceLocation>(ctx: Ctx<'_, L>) -> Result<()> {
    let (_page, ()) = ctx.init_with(ctx.alloc_pinned::<u32>(4)?, |_| Ok::<(), Error>(()))?;
    Ok(())
}

fn main() {}
