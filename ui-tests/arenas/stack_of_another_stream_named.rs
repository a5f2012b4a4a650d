// R7: an arena's memory is reused in the order of its own stream.
// Instead: make a stack over `b.pool()`.
use tidelock::{Ctx, Result, Stack, sim::Sim};

pub fn scratch<'a, 'b>(stack: &Stack<Sim<'a>>, b: Ctx<'_, Sim<'b>>) -> Result<usize> {
    Ok(b.with_device_alloc(stack).alloc::<f32>(8)?.len())
}

fn main() {}
