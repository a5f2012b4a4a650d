// R17: a kernel's arguments are a tuple, also if there is one.
// Instead: `ctx.launch((logits,), |(logits,)| ..)`.
use tidelock::{Ctx, Result, ViewMut, sim::Sim};

pub fn reset<'s>(ctx: Ctx<'_, Sim<'s>>, logits: ViewMut<'_, f32, Sim<'s>>) -> Result<()> {
    ctx.launch(logits, |_| ())
}

fn main() {}
