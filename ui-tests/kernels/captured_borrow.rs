// R4: a kernel runs later, so that it borrows nothing from the function that launches it.
// Instead: pass the value as an argument: `ctx.launch((x, factor), |(x, factor)| ..)`.
use tidelock::{Ctx, Result, ViewMut, sim::Sim};

pub fn scale<'s>(ctx: Ctx<'_, Sim<'s>>, x: ViewMut<'_, u32, Sim<'s>>, factor: &u32) -> Result<()> {
    ctx.launch((x,), |(x,)| x.iter_mut().for_each(|x| *x *= *factor))
}

fn main() {}
