// R1: a kernel uses memory of its own stream.
// Instead: launch on a context of stream `'a`.
use tidelock::{Ctx, Result, TensorView, sim::Sim};

pub fn foreign<'a, 'b>(x: TensorView<'_, u32, Sim<'a>, 2>, b: Ctx<'_, Sim<'b>>) -> Result<()> {
    b.launch((x,), |(x,)| assert_eq!(x[[0, 0]], 1))
}

fn main() {}
