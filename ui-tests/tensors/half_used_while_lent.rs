// R17: what is lent to be written is not used meanwhile.
// Instead: split it first, and use the other half: `ctx.copy_tensor(src, right)`.
use tidelock::{Ctx, Result, TensorMut, TensorView, sim::Sim};

pub fn both<'a, 'b>(
    a: Ctx<'_, Sim<'a>>,
    b: Ctx<'_, Sim<'b>>,
    mut x: TensorMut<'_, u32, Sim<'a>, 2>,
    src: TensorView<'_, u32, Sim<'a>, 2>,
) -> Result<()> {
    a.lend_tensor_mut(x.reborrow(), &b, |_| a.copy_tensor(src, x.reborrow()))?
}

fn main() {}
