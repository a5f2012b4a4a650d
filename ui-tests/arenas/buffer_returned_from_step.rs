// R7: an arena's memory does not outlive the arena.
// Instead: take the stack as `&Stack<L>` and return `Buffer<f32, L, &Stack<L>>`, or allocate from the pool.
use tidelock::{Buffer, Ctx, DeviceLocation, Result, Stack};

pub fn step<'a, L: DeviceLocation>(ctx: Ctx<'a, L>) -> Result<Buffer<f32, L, &'a Stack<L>>> {
    let stack = Stack::new(ctx.pool());
    ctx.with_device_alloc(&stack).zeros::<f32>(8)
}

fn main() {}
