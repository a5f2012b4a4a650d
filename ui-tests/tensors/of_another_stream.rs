// R1: memory of one stream is not used on another.
// Instead: `transfer` the buffer, or `lend` a view of it.
use tidelock::{Ctx, Result, TensorMut, TensorView, sim::Sim};

pub fn across<'a, 'b>(
    ctx: Ctx<'_, Sim<'a>>,
    src: TensorView<'_, f32, Sim<'b>, 2>,
    dst: TensorMut<'_, f32, Sim<'a>, 2>,
) -> Result<()> {
    ctx.copy_tensor(src, dst)
}

fn main() {}
