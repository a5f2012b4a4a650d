// R4: what borrows lent memory is submitted before the loan ends.
// Instead: open the batch's scope inside of the closure.
use tidelock::{Ctx, Result, View, ViewMut, batch::Batch, sim::Sim};

pub fn gather<'env, 'a, 'b>(
    a: Ctx<'_, Sim<'a>>,
    view: View<'env, u32, Sim<'a>>,
    b: Ctx<'_, Sim<'b>>,
    batch: &mut Batch<'_, 'env, Sim<'b>>,
    target: ViewMut<'env, u32, Sim<'b>>,
) -> Result<()> {
    a.lend(view, &b, |view| batch.copy(view, target))?
}

fn main() {}
