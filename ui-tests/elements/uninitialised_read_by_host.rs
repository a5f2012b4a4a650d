// R6: the host does not read what nobody has written.
// Instead: `ctx.alloc_host::<u32>(8)?.write_with(|i| ..)`, or `Buffer::<u32, Host>::zeros(8)`.
use tidelock::{Ctx, DeviceLocation, Result};

pub fn first<L: DeviceLocation>(ctx: Ctx<'_, L>) -> Result<u32> {
    let tokens = ctx.alloc_host::<u32>(8)?;
    let first: u32 = tokens[0];
    Ok(first)
}

fn main() {}
