// R11: shared memory is written by its only owner, which is borrowed exclusively.
// Instead: `ctx.clear(x.get_mut().unwrap())` where the views of `x` have ended.
use tidelock::{Ctx, DeviceLocation, Result, stream::Shared};

pub fn write<L: DeviceLocation>(ctx: Ctx<'_, L>, mut x: Shared<u32, L>) -> Result<()> {
    let seen = x.view();
    if let Some(all) = x.get_mut() {
        ctx.copy(seen, all)?;
    }
    Ok(())
}

fn main() {}
