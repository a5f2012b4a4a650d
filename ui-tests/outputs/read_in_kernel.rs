// R6: a kernel writes an output, and does not read it.
// Instead: `let sums = sums.into_filled(0);`, a slice that is read and written.
use tidelock::{Ctx, Result, View, sim::Sim, stream::StreamAlloc};

pub fn sum<'s>(ctx: Ctx<'_, Sim<'s>, StreamAlloc<Sim<'s>>>, x: View<'_, u32, Sim<'s>>) -> Result<()> {
    let (_sum, ()) = ctx.init_with(ctx.alloc::<u32>(1)?, |sum| {
        ctx.launch((x, sum), |(x, mut sum)| x.iter().for_each(|x| sum[0] += x))
    })?;
    Ok(())
}

fn main() {}
