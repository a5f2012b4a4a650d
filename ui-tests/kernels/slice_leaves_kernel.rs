// R4: what a kernel sees ends with the kernel.
// Instead: write the result into another view of the launch.
use std::sync::mpsc::Sender;
use tidelock::{Ctx, Result, View, sim::Sim};

pub fn smuggle<'s>(ctx: Ctx<'_, Sim<'s>>, x: View<'_, u32, Sim<'s>>, out: Sender<&'static [u32]>) -> Result<()> {
    ctx.launch((x,), move |(x,)| drop(out.send(x)))
}

fn main() {}
