// R3: kernels reach pinned memory once it is staged.
// Instead: `let page = page.stage(&ctx);`.
use tidelock::{Buffer, Ctx, Result, location::Pinned, sim::{Sim, SimBackend}};

pub fn read<'s>(ctx: Ctx<'_, Sim<'s>>, page: &Buffer<u8, Pinned<SimBackend>>) -> Result<()> {
    ctx.with_pool().table([page.view()]).map(drop)
}

fn main() {}
