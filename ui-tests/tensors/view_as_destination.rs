// R17: a destination is borrowed exclusively.
// Instead: `tensor.view_mut()`.
use tidelock::{Ctx, DeviceLocation, Result, TensorView};

pub fn copy<L: DeviceLocation>(
    ctx: Ctx<'_, L>,
    src: TensorView<'_, f32, L, 2>,
    dst: TensorView<'_, f32, L, 2>,
) -> Result<()> {
    ctx.copy_tensor(src, dst)
}

fn main() {}
