// R17: a table keeps what it points to, and a number keeps nothing.
// Instead: `ctx.table(blocks.map(|block| rows.row(block)))` of views.
use tidelock::{Buffer, Ctx, Result, sim::Sim};

pub fn read<'s>(ctx: Ctx<'_, Sim<'s>>, pool: &Buffer<u8, Sim<'s>>) -> Result<()> {
    ctx.with_pool().table([pool.as_ptr().addr()]).map(drop)
}

fn main() {}
