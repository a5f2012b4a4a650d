// R6: a kernel sees values, so that its memory is initialised first.
// Instead: `ctx.zeros::<u32>(8)?`.
use std::mem::MaybeUninit;
use tidelock::{Buffer, Ctx, Result, sim::Sim};

pub fn double<'s>(ctx: Ctx<'_, Sim<'s>>, scratch: &mut Buffer<MaybeUninit<u32>, Sim<'s>>) -> Result<()> {
    ctx.launch((scratch.view_mut(),), |_| ())
}

fn main() {}
