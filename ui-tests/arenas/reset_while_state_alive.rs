// R7: state that lives from iteration to iteration does not come from the arena.
// Instead: `State::zeros(&ctx.with_pool(), 8)`.
use tidelock::{Ctx, DeviceLocation, Result, Stack, State};

pub fn run<L: DeviceLocation>(ctx: Ctx<'_, L>) -> Result<()> {
    let mut stack = Stack::new(ctx.pool());
    let mut lengths = State::<u32, L, _>::zeros(&ctx.with_device_alloc(&stack), 8)?;
    for _ in 0..3 {
        lengths.swap();
        stack.reset()?;
    }
    Ok(())
}

fn main() {}
