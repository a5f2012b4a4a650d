// R8: every buffer of a fence is staged.
// Instead: `tokens.stage(&ctx)` before the copy into it.
use tidelock::{
    Buffer, Ctx, Error,
    location::Pinned,
    sim::{Sim, SimBackend},
    stream::Staged,
};

pub fn fetch<'s>(
    ctx: Ctx<'_, Sim<'s>>,
    logits: Buffer<f32, Staged<Sim<'s>>>,
    tokens: Buffer<u32, Pinned<SimBackend>>,
) -> Result<(), Error> {
    drop(ctx.fence((logits, tokens))?);
    Ok(())
}

fn main() {}
