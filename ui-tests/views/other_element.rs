// R9: a copy moves values of one type.
// Instead: reinterpret one of the two: `source.try_cast::<f32>()?`.
use tidelock::{Ctx, DeviceLocation, Result, View, ViewMut};

pub fn send<L: DeviceLocation>(ctx: Ctx<'_, L>, source: View<'_, u32, L>, target: ViewMut<'_, f32, L>) -> Result<()> {
    ctx.copy(source, target)
}

fn main() {}
