// R6: what is initialised is memory that is not.
// Instead: `ctx.launch((x.view_mut(),), ..)`; to get a fresh buffer, `ctx.alloc::<u32>(len)?`.
use tidelock::{Buffer, Ctx, DeviceLocation, Error, Result};

pub fn again<L: DeviceLocation>(ctx: Ctx<'_, L>, x: Buffer<u32, L>) -> Result<Buffer<u32, L>> {
    let (x, ()) = ctx.init_with(x, |_| Ok::<(), Error>(()))?;
    Ok(x)
}

fn main() {}
