// R4: a batch writes what the stream's kernels may write; lent host memory is not of that kind.
// Instead: a plain copy, `ctx.copy(device, lent)`.
use tidelock::{DeviceLocation, Result, View, ViewMut, batch::Batch, stream::Lent};

pub fn fetch<'env, L: DeviceLocation>(
    batch: &mut Batch<'_, 'env, L>,
    device: View<'env, u32, L>,
    lent: ViewMut<'env, u32, Lent<L>>,
) -> Result<()> {
    batch.copy(device, lent)
}

fn main() {}
