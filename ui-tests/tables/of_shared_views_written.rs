// R17: a table of views that may overlap is only read.
// Instead: make it of exclusive views: `ctx.table(pool.view_mut().chunks_exact(size))?`.
use std::num::NonZero;
use tidelock::{Buffer, Ctx, Result, sim::Sim};

pub fn write<'s>(ctx: Ctx<'_, Sim<'s>>, pool: &mut Buffer<u8, Sim<'s>>) -> Result<()> {
    let mut table = ctx.with_pool().table(pool.view().chunks_exact(NonZero::<usize>::MIN))?;
    ctx.launch((table.view_mut(),), |_| ())
}

fn main() {}
