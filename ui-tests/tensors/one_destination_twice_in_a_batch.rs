// R22: the copies of a batch are unordered, so that each destination is borrowed for all of it.
// Instead: two batches, or two parts of the destination: `dst.view_mut().split_at(0, 1)?`.
use tidelock::{BatchCopy, Ctx, DeviceLocation, Result, Tensor, TensorView};

pub fn both<L: DeviceLocation>(
    ctx: Ctx<'_, L>,
    [a, b]: [TensorView<'_, f32, L, 2>; 2],
    dst: &mut Tensor<f32, L, 2>,
) -> Result<()> {
    BatchCopy::new().scope(&ctx, |batch| {
        batch.group(|group| {
            group.copy_tensor(a, dst.view_mut())?;
            group.copy_tensor(b, dst.view_mut())
        })
    })
}

fn main() {}
