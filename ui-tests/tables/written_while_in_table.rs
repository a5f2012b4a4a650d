// R17: what a table reads is not written while the table lives.
// Instead: drop the table first; kernels that are enqueued already read what was there.
use std::num::NonZero;
use tidelock::{Buffer, Ctx, Result, sim::Sim};

pub fn read<'s>(ctx: Ctx<'_, Sim<'s>>, pool: &mut Buffer<u8, Sim<'s>>) -> Result<()> {
    let table = ctx.with_pool().table(pool.view().chunks_exact(NonZero::<usize>::MIN))?;
    ctx.clear(pool.view_mut())?;
    ctx.launch((table.view(),), |_| ())
}

fn main() {}
