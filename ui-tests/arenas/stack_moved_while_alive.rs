// R7: an arena stays where it is while its memory is in use.
// Instead: move the stack before anything is allocated from it.
use tidelock::{Ctx, DeviceLocation, Result, Stack};

pub fn step<L: DeviceLocation>(ctx: Ctx<'_, L>) -> Result<Stack<L>> {
    let stack = Stack::new(ctx.pool());
    let logits = ctx.with_device_alloc(&stack).zeros::<f32>(8)?;
    let moved = stack;
    drop(logits);
    Ok(moved)
}

fn main() {}
