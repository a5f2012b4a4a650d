// R2: a kernel gets an output as an argument, and captures none.
// Instead: `ctx.launch((out,), |(mut out,)| out.fill(1))`.
use tidelock::{Ctx, Result, sim::Sim, stream::StreamAlloc};

pub fn capture<'s>(ctx: Ctx<'_, Sim<'s>, StreamAlloc<Sim<'s>>>) -> Result<()> {
    let (_ones, ()) = ctx.init_with(ctx.alloc::<u32>(4)?, |out| ctx.launch((1_u32,), move |_| drop(out)))?;
    Ok(())
}

fn main() {}
