// R4: an event belongs to whoever recorded it; no other code can name it, and so record it again.
// Instead: create your own event with `gpu.event_create()`.
#![forbid(unsafe_code)]
use tidelock_simulator::{EventId, Gpu, StreamId};

pub fn forge(gpu: &Gpu) {
    let _ = gpu.event_record(EventId(1), StreamId::default());
}

fn main() {}
