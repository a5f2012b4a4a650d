// R17: a kernel's exclusive slice overlaps none of its other slices.
// Instead: pass the exclusive view once, and read through it.
use tidelock::{Buffer, Ctx, Result, sim::Sim};

pub fn shift<'s>(ctx: Ctx<'_, Sim<'s>>, x: &mut Buffer<u32, Sim<'s>>) -> Result<()> {
    ctx.launch((x.view(), x.view_mut()), |(source, target)| target.copy_from_slice(source))
}

fn main() {}
