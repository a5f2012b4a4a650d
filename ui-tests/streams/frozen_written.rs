// R11: memory shared by streams is only read.
// Instead: write the weights before they are frozen.
use tidelock::{Ctx, Env, Frozen, Result, Sim, sim::SimBackend};

pub fn reset<'s>(
    ctx: Ctx<'_, Sim<'s>>,
    env: &Env<'s, '_, Sim<'s>>,
    weights: &'s Frozen<f32, SimBackend>,
) -> Result<()> {
    ctx.clear::<f32, Sim<'s>>(env.frozen(weights)?)
}

fn main() {}
