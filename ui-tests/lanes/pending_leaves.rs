// R1: a fence belongs to the visit that made it.
// Instead: wait for it in the visit, and return the pinned memory.
use tidelock::{Error, Result, sim::SimBackend, stream::Lane};

pub fn fence(lane: &mut Lane<SimBackend>) -> Result<()> {
    let pending = lane.enter(|stream, _| {
        let ctx = stream.ctx();
        let out = ctx.init_zeros(ctx.alloc_pinned::<u32>(4)?.stage(&ctx))?;
        Ok::<_, Error>(ctx.fence(out)?)
    })??;
    drop(pending);
    Ok(())
}

fn main() {}
