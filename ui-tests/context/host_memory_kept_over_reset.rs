// R7: memory of an arena that a context names does not outlive the arena's iteration.
// Instead: drop the buffer first, or allocate it with `ctx.plain().alloc_host::<T>(len)`.
use tidelock::{Ctx, DeviceLocation, Result, Stack, location::Host};

pub fn step<L: DeviceLocation>(ctx: Ctx<'_, L>, arena: &mut Stack<Host>) -> Result<usize> {
    let numbers = ctx.with_host_alloc(&*arena).alloc_host::<u32>(8)?;
    arena.reset()?;
    Ok(numbers.len())
}

fn main() {}
