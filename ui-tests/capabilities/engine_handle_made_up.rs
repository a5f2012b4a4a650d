// R4: an event belongs to whoever recorded it; nobody else can name it, and so record it again.
// Instead: create your own event with `engine.event_create()`.
use tidelock::sim::{Device, engine::EventId};

pub fn forge(device: &Device) {
    let _ = device.engine().event_query(EventId(1));
}

fn main() {}
