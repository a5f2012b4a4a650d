// R20: the rank is in the type.
// Instead: `dst.unsqueeze(0)?`, or a source of the same rank.
use tidelock::{Ctx, DeviceLocation, Result, TensorMut, TensorView};

pub fn copy<L: DeviceLocation>(
    ctx: Ctx<'_, L>,
    src: TensorView<'_, f32, L, 3>,
    dst: TensorMut<'_, f32, L, 2>,
) -> Result<()> {
    ctx.copy_tensor(src, dst)
}

fn main() {}
