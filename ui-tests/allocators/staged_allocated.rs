// R3: staged memory is never allocated; it comes from `stage`.
// Instead: `ctx.alloc_pinned::<u32>(8)?.stage(&ctx)`.
use tidelock::{Ctx, DeviceLocation, Result, stream::Staged};

pub fn room<L: DeviceLocation>(ctx: Ctx<'_, L>) -> Result<()> {
    let _room = ctx.alloc_in::<u32, Staged<L>>(8)?;
    Ok(())
}

fn main() {}
