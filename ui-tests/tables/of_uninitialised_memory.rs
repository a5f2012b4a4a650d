// R6: a kernel sees values, so that what a table points to is initialised first.
// Instead: `ctx.zeros::<bool>(8)?`.
use tidelock::{Ctx, Result, sim::Sim};

pub fn read<'s>(ctx: Ctx<'_, Sim<'s>>) -> Result<()> {
    let pool = ctx.with_pool().alloc::<bool>(8)?;
    ctx.with_pool().table([pool.view()]).map(drop)
}

fn main() {}
