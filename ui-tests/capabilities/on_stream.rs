// R3: what a stream uses belongs to it; memory still pinned is the host's.
// Instead: `let tokens = tokens.stage(&ctx);`, and copy from `tokens.view()`.
use tidelock::{
    Ctx, Result, View, ViewMut,
    location::Pinned,
    sim::{Sim, SimBackend},
};

pub fn load(ctx: Ctx<'_, Sim<'_>>, tokens: View<'_, u32, Pinned<SimBackend>>, table: ViewMut<'_, u32, Sim<'_>>) -> Result<()> {
    ctx.copy(tokens, table)
}

fn main() {}
