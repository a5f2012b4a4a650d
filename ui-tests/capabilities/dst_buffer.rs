// R17: a destination is a view.
// Instead: `target.view_mut()`.
use tidelock::{Buffer, Ctx, DeviceLocation, Result, View};

pub fn send<L: DeviceLocation>(ctx: Ctx<'_, L>, source: View<'_, u32, L>, target: &mut Buffer<u32, L>) -> Result<()> {
    ctx.copy(source, target)
}

fn main() {}
