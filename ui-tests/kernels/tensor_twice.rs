// R17: no two arguments of a kernel overlap if one is written.
// Instead: pass the exclusive tensor once, or two parts of it: `x.view_mut().split_at(1, 2)?`.
use tidelock::{Ctx, Result, Tensor, sim::Sim};

pub fn twice<'s>(ctx: Ctx<'_, Sim<'s>>, x: &mut Tensor<u32, Sim<'s>, 2>) -> Result<()> {
    ctx.launch((x.view(), x.view_mut()), |(from, mut to)| to[[0, 1]] = from[[1, 0]])
}

fn main() {}
