// R1: each visit of a lane has a brand of its own, so that no memory is stored for the next one.
// Instead: store `stream.ctx().detach(x)?`, a `Buffer<u32, Detached<_>>`.
use tidelock::{Result, sim::SimBackend, stream::Lane};

pub fn keep(lane: &mut Lane<SimBackend>) -> Result<()> {
    let mut kept = None;
    lane.enter(|stream, _| -> Result<()> {
        kept = Some(stream.ctx().with_pool().zeros::<u32>(4)?);
        Ok(())
    })?
}

fn main() {}
