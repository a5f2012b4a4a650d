// R1: detached memory is used once a stream has attached it.
// Instead: `let x = ctx.attach(detached)?`.
use tidelock::{Buffer, Ctx, DeviceLocation, Result, ViewMut, stream::Detached};

pub fn read<L: DeviceLocation>(
    ctx: Ctx<'_, L>,
    x: &Buffer<u32, Detached<L::Backend>>,
    y: ViewMut<'_, u32, L>,
) -> Result<()> {
    ctx.copy(x.view(), y)
}

fn main() {}
