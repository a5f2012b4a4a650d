// R17: a kernel takes views, so that the buffer stays yours.
// Instead: `ctx.launch((logits.view_mut(), 2.0_f32), ..)`.
use tidelock::{Buffer, Ctx, Result, sim::Sim};

pub fn double<'s>(ctx: Ctx<'_, Sim<'s>>, logits: Buffer<f32, Sim<'s>>) -> Result<()> {
    ctx.launch((logits, 2.0_f32), |_| ())
}

fn main() {}
