// R17: a target that is written by itself is not written through its table meanwhile.
// Instead: launch first, or end the view of the target before.
use tidelock::{Buffer, Ctx, Result, sim::Sim, stream::Table};

pub fn write<'s>(ctx: Ctx<'_, Sim<'s>>, table: &mut Table<Buffer<u8, Sim<'s>>, Sim<'s>>) -> Result<()> {
    let first = table.target_mut(0)?;
    ctx.launch((table.view_mut(),), |_| ())?;
    ctx.clear(first)
}

fn main() {}
