// R4: lent host memory is pageable, and out of the reach of kernels.
// Instead: copy it to the device first: `ctx.copy_tensor(x, device.view_mut())`.
use tidelock::{Ctx, Result, TensorView, sim::Sim, stream::Lent};

pub fn lent<'s>(ctx: Ctx<'_, Sim<'s>>, x: TensorView<'_, u32, Lent<Sim<'s>>, 2>) -> Result<()> {
    ctx.launch((x,), |(x,)| assert_eq!(x[[0, 0]], 1))
}

fn main() {}
