// R11: memory lent to be read is not written by the borrower.
// Instead: `a.lend_mut(shared.view_mut(), &b, |view| b.clear(view))`.
use tidelock::{Ctx, Result, View, sim::Sim};

pub fn reset<'a, 'b>(a: Ctx<'_, Sim<'a>>, shared: View<'_, u32, Sim<'a>>, b: Ctx<'_, Sim<'b>>) -> Result<()> {
    a.lend(shared, &b, |view| b.clear(view))?
}

fn main() {}
