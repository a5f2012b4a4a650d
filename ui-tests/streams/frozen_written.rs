// R11: memory shared by streams is only read.
// Instead: write the weights before they are frozen.
use tidelock::{
    Ctx, Result,
    sim::{Sim, SimBackend},
    stream::{Env, Frozen},
};

pub fn reset<'s>(
    ctx: Ctx<'_, Sim<'s>>,
    env: &Env<'s, '_, Sim<'s>>,
    weights: &'s Frozen<f32, SimBackend>,
) -> Result<()> {
    ctx.clear::<f32, Sim<'s>>(env.frozen(weights)?)
}

fn main() {}
