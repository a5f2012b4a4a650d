// R1: memory of a stream leaves a visit detached.
// Instead: `stream.ctx().detach(x)?`, and `stream.ctx().attach(x)?` in the next visit.
use tidelock::{Result, sim::SimBackend, stream::Lane};

pub fn keep(lane: &mut Lane<SimBackend>) -> Result<()> {
    let kept = lane.enter(|stream, _| stream.ctx().with_pool().zeros::<u32>(4))??;
    drop(kept);
    Ok(())
}

fn main() {}
