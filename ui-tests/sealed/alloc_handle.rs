// R10: an `AllocHandle` allocates only if it is an `Allocator`, which is unsafe to implement.
// Instead: `unsafe impl Allocator<L> for Mine`, with a proof of every promise.
use tidelock::{Ctx, Result, sim::Sim, stream::AllocHandle};

#[derive(Clone, Copy)]
pub struct Mine;

impl AllocHandle for Mine {}

pub fn step(ctx: Ctx<'_, Sim<'_>>) -> Result<usize> {
    Ok(ctx.with_device_alloc(Mine).zeros::<u32>(8)?.len())
}

fn main() {}
