// R10: a function that takes the context as a stream has it first does not allocate from an arena.
// Instead: `default(&ctx.plain())`, or a layer that is generic: `A: HasAlloc<L>`.
use tidelock::{Ctx, DeviceLocation, Result, Stack};

fn default<L: DeviceLocation>(ctx: &Ctx<'_, L>) -> Result<usize> {
    Ok(ctx.with_pool().zeros::<u32>(8)?.len())
}

pub fn step<L: DeviceLocation>(ctx: Ctx<'_, L>, arena: &Stack<L>) -> Result<usize> {
    default(&ctx.with_device_alloc(arena))
}

fn main() {}
