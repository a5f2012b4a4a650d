// R4: what a kernel sees ends with the kernel.
// Instead: write the result into a view of the launch.
use std::sync::mpsc::Sender;
use tidelock::{Ctx, Result, View, sim::Sim, stream::Table};

type Blocks<'p, 's> = Table<View<'p, u8, Sim<'s>>, Sim<'s>>;

pub fn smuggle<'s>(ctx: Ctx<'_, Sim<'s>>, table: &Blocks<'_, 's>, out: Sender<&'static [u8]>) -> Result<()> {
    ctx.launch((table.view(),), move |(table,)| drop(out.send(table[0])))
}

fn main() {}
