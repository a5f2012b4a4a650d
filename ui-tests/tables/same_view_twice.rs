// R17: the targets of a table that is written do not overlap.
// Instead: a table of `pool.view()`s may repeat, and is read.
use tidelock::{Buffer, Ctx, Result, sim::Sim};

pub fn write<'s>(ctx: Ctx<'_, Sim<'s>>, pool: &mut Buffer<u8, Sim<'s>>) -> Result<()> {
    let mut table = ctx.with_pool().table([pool.view_mut(), pool.view_mut()])?;
    ctx.launch((table.view_mut(),), |_| ())
}

fn main() {}
