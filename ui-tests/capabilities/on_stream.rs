// R3: a stream uses its own memory, and what was staged for it or lent to it.
// Instead: `tokens.stage(&ctx)`.
use tidelock::{Ctx, Pinned, Result, Sim, ViewMut, sim::SimBackend};

pub fn reset(ctx: Ctx<'_, Sim<'_>>, tokens: ViewMut<'_, u32, Pinned<SimBackend>>) -> Result<()> {
    ctx.clear(tokens)
}

fn main() {}
