// R17: a destination is moved into the copy.
// Instead: `ctx.copy_tensor(src, dst.reborrow())?` for the first one.
use tidelock::{Ctx, DeviceLocation, Result, TensorMut, TensorView};

pub fn twice<L: DeviceLocation>(
    ctx: Ctx<'_, L>,
    src: TensorView<'_, f32, L, 2>,
    dst: TensorMut<'_, f32, L, 2>,
) -> Result<()> {
    ctx.copy_tensor(src, dst)?;
    ctx.copy_tensor(src, dst)
}

fn main() {}
