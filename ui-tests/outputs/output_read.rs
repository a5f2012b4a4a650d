// R6: an output is not initialised yet.
// Instead: read the initialised buffer behind the call, in stream order.
use tidelock::{Ctx, Result, ViewMut, sim::Sim, stream::StreamAlloc};

pub fn read<'s>(ctx: Ctx<'_, Sim<'s>, StreamAlloc<Sim<'s>>>, target: ViewMut<'_, u32, Sim<'s>>) -> Result<()> {
    let (_zeros, ()) = ctx.init_with(ctx.alloc::<u32>(4)?, |out| {
        ctx.copy(out, target)?;
        ctx.clear(out)
    })?;
    Ok(())
}

fn main() {}
