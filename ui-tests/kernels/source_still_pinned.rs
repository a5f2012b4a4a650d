// R3: a kernel uses pinned memory only after it was handed to the stream.
// Instead: `let tokens = tokens.stage(&ctx)`.
use tidelock::{
    Buffer, Ctx, Result,
    location::Pinned,
    sim::{Sim, SimBackend},
};

pub fn double(ctx: Ctx<'_, Sim<'_>>, tokens: &mut Buffer<u32, Pinned<SimBackend>>) -> Result<()> {
    ctx.launch((tokens.view_mut(),), |(tokens,)| tokens.iter_mut().for_each(|t| *t *= 2))
}

fn main() {}
