// R8: a mark is passed by value: its event is used again once the time was read.
// Instead: mark the point twice: `ctx.mark()?` once for each time that starts there.
use tidelock::{Ctx, DeviceLocation, Result};

pub fn time<L: DeviceLocation>(ctx: Ctx<'_, L>) -> Result<()> {
    let start = ctx.mark()?;
    let _first = ctx.elapsed_since(start)?;
    let _second = ctx.elapsed_since(start)?;
    Ok(())
}

fn main() {}
