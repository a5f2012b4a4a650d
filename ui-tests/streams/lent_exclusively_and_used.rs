// R4: memory lent to be written is the borrower's until the closure ends.
// Instead: enqueue the copy behind the loan.
use tidelock::{Buffer, Ctx, Result, ViewMut, sim::Sim};

pub fn fill<'a, 'b>(
    a: Ctx<'_, Sim<'a>>,
    shared: &mut Buffer<u32, Sim<'a>>,
    b: Ctx<'_, Sim<'b>>,
    target: ViewMut<'_, u32, Sim<'a>>,
) -> Result<()> {
    a.lend_mut(shared.view_mut(), &b, |view| {
        b.clear(view)?;
        a.copy(shared.view(), target)
    })?
}

fn main() {}
