// R1: a tensor that is lent to another stream ends with the closure.
// Instead: use it in the closure, or `transfer` the buffer.
use tidelock::{Ctx, Result, TensorView, sim::Sim};

pub fn kept<'a, 'b>(
    a: Ctx<'_, Sim<'a>>,
    b: Ctx<'_, Sim<'b>>,
    x: TensorView<'_, u32, Sim<'a>, 2>,
) -> Result<usize> {
    let there = a.lend_tensor(x, &b, |x| x)?;
    Ok(there.size())
}

fn main() {}
