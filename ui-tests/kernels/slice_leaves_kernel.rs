// R4: what a kernel sees ends with the kernel.
// Instead: write the result into another view of the launch.
use tidelock::{Ctx, Result, Sim, View};

pub fn smuggle<'s>(ctx: Ctx<'_, Sim<'s>>, x: View<'_, u32, Sim<'s>>) -> Result<()> {
    let mut kept: &'static [u32] = &[];
    ctx.launch((x,), move |(x,)| {
        kept = x;
        drop(kept.first());
    })
}

fn main() {}
