// R4: what a kernel writes ends with the kernel.
// Instead: write it in the kernel.
use std::sync::mpsc::Sender;
use tidelock::{Ctx, Result, driver::WriteOnly, sim::Sim, stream::StreamAlloc};

pub fn smuggle<'s>(
    ctx: Ctx<'_, Sim<'s>, StreamAlloc<Sim<'s>>>,
    to: Sender<&'static mut [u32]>,
) -> Result<()> {
    let (_ones, ()) = ctx.init_with(ctx.alloc::<u32>(4)?, |out| {
        ctx.launch((out,), move |(out,): (WriteOnly<'_, u32>,)| drop(to.send(out.into_filled(1))))
    })?;
    Ok(())
}

fn main() {}
