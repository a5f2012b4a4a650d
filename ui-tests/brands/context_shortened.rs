// R1: contexts are invariant in the brand.
// Instead: pass `Ctx<'_, Sim<'long>>` on as it is; only the borrow `'_` may be shortened.
use tidelock::{Ctx, sim::Sim};

pub fn shorten<'c, 'long: 'short, 'short>(ctx: Ctx<'c, Sim<'long>>) -> Ctx<'c, Sim<'short>> {
    ctx
}

fn main() {}
