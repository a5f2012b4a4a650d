// R20: an index has a number for each axis.
// Instead: `x[[1, 0]]`, or `x.view([6])?` as the argument.
use tidelock::{Ctx, Result, TensorView, sim::Sim};

pub fn rank<'s>(ctx: Ctx<'_, Sim<'s>>, x: TensorView<'_, u32, Sim<'s>, 2>) -> Result<()> {
    ctx.launch((x,), |(x,)| assert_eq!(x[[3]], 1))
}

fn main() {}
