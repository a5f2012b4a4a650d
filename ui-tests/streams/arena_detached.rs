// R3: only memory of the default allocator leaves its stream.
// Instead: allocate it with `ctx.with_pool()`.
use tidelock::{Buffer, Ctx, DeviceLocation, Result, Stack};

pub fn leave<L: DeviceLocation>(ctx: Ctx<'_, L>, buffer: Buffer<u32, L, &Stack<L>>) -> Result<()> {
    drop(ctx.detach(buffer)?);
    Ok(())
}

fn main() {}
