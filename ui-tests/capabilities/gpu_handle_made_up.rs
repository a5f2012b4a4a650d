// R4: an event belongs to whoever recorded it; no other code can name it, and so record it again.
// Instead: create your own event with `gpu.event_create()`.
use tidelock::sim::{Device, gpu::EventId};

pub fn forge(device: &Device) {
    let _ = device.gpu().event_query(EventId(1));
}

fn main() {}
