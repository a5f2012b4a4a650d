// R7: an arena's memory does not outlive the arena.
// Instead: declare the stack outside of the block, or allocate what must stay with `ctx.with_pool()`.
use tidelock::{Ctx, DeviceLocation, Result, Stack};

pub fn step<L: DeviceLocation>(ctx: Ctx<'_, L>) -> Result<()> {
    let logits = {
        let stack = Stack::new(ctx.pool());
        ctx.with_device_alloc(&stack).zeros::<f32>(8)?
    };
    drop(logits);
    Ok(())
}

fn main() {}
