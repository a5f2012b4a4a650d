// R1: a location belongs to the family of its stream: `OnBackend` is sealed.
// Instead: generic code takes `L: DeviceLocation` and names `L::Backend`.
use tidelock::{location::Pinned, sim::SimBackend, stream::OnBackend};

pub struct Disk;

impl OnBackend for Disk {
    type Backend = SimBackend;
    type Pinned = Pinned<SimBackend>;
}

fn main() {}
