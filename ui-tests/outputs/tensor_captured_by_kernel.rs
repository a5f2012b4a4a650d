// R2: a kernel gets an output as an argument, and captures none.
// Instead: `ctx.launch((out.contiguous()?,), |(mut out,)| out.fill(1))`.
use tidelock::{Ctx, Result, sim::Sim, stream::StreamAlloc};

pub fn capture<'s>(ctx: Ctx<'_, Sim<'s>, StreamAlloc<Sim<'s>>>) -> Result<()> {
    let fresh = ctx.alloc::<u32>(4)?.tensor([2, 2])?;
    let (_ones, ()) = ctx.init_with(fresh, |out| ctx.launch((1_u32,), move |_| drop(out)))?;
    Ok(())
}

fn main() {}
