// R7: an iteration ends when nothing of it is alive.
// Instead: drop `logits` before `stack.reset()`.
use tidelock::{Ctx, DeviceLocation, Result, Stack};

pub fn step<L: DeviceLocation>(ctx: Ctx<'_, L>, stack: &mut Stack<L>) -> Result<()> {
    let logits = ctx.with_device_alloc(&*stack).zeros::<f32>(8)?;
    stack.reset()?;
    ctx.copy(logits.view(), ctx.with_pool().zeros::<f32>(8)?.view_mut())
}

fn main() {}
