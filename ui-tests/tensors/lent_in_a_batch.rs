// R9: kernels and batches do not use lent memory.
// Instead: `ctx.copy_tensor(src, dst)` outside of the batch.
use tidelock::{Result, TensorMut, TensorView, batch::Group, stream::Lent, DeviceLocation};

pub fn back<'e, L: DeviceLocation>(
    group: &mut Group<'_, 'e, L>,
    src: TensorView<'e, f32, L, 2>,
    dst: TensorMut<'e, f32, Lent<L>, 2>,
) -> Result<()> {
    group.copy_tensor(src, dst)
}

fn main() {}
