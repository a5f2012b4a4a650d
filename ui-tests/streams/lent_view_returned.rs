// R4: a loan between streams ends with its closure, where the lender waits for the borrower.
// Instead: enqueue every use of the view inside of the closure.
use tidelock::{Ctx, Result, View, sim::Sim};

pub fn borrow<'a, 'b>(a: Ctx<'_, Sim<'a>>, view: View<'_, u32, Sim<'a>>, b: Ctx<'_, Sim<'b>>) -> Result<()> {
    let _kept = a.lend(view, &b, |view| view)?;
    Ok(())
}

fn main() {}
