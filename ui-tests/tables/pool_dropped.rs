// R17: a table borrows what it points to.
// Instead: drop the table first, or give it the buffer: `ctx.table([pool])`.
use std::num::NonZero;
use tidelock::{Buffer, Ctx, Result, sim::Sim};

pub fn read<'s>(ctx: Ctx<'_, Sim<'s>>, pool: Buffer<u8, Sim<'s>>) -> Result<()> {
    let table = ctx.with_pool().table(pool.view().chunks_exact(NonZero::<usize>::MIN))?;
    drop(pool);
    ctx.launch((table.view(),), |_| ())
}

fn main() {}
