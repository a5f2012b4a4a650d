// R4: an event of the typed layer has one owner: the list of spare events is not for programs.
// Instead: `ctx.fence(buffers)` and `ctx.detach(buffer)` carry their events.
use tidelock::{
    driver::RawDevice,
    sim::{Device, gpu::EventId},
};

pub fn plant(device: &Device, mine: EventId) {
    device.shared().spare_events().keep(&mut [mine].into_iter());
}

fn main() {}
