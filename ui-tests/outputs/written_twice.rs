// R6: an output is written once, or the sum of what is counted proves nothing.
// Instead: cut it with `split_at` or `rows`, and write each part once; write the buffer again behind the call.
use tidelock::{Ctx, Result, sim::Sim, stream::StreamAlloc};

pub fn twice<'s>(ctx: Ctx<'_, Sim<'s>, StreamAlloc<Sim<'s>>>) -> Result<()> {
    let (_zeros, ()) = ctx.init_with(ctx.alloc::<u32>(4)?, |out| {
        ctx.clear(out)?;
        ctx.clear(out)
    })?;
    Ok(())
}

fn main() {}
