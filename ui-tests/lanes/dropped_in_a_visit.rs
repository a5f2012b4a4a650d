// R1: a lane outlives its visits.
// Instead: drop it when the visit has ended.
use tidelock::{Result, sim::SimBackend, stream::Lane};

pub fn end(mut lane: Lane<SimBackend>) -> Result<()> {
    lane.enter(|_, _| drop(lane))
}

fn main() {}
