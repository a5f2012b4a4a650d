// R1: one visit of a lane at a time, so that one `Stream` exists for its stream.
// Instead: end the visit first, or enter a second lane inside of it.
use tidelock::{Result, sim::SimBackend, stream::Lane};

pub fn twice(lane: &mut Lane<SimBackend>) -> Result<()> {
    lane.enter(|_, _| lane.enter(|_, _| ()))?
}

fn main() {}
