// R10: whoever implements `Backend` promises what the memory of a device is: it is unsafe to implement.
// Instead: `sim::Device` is a device without hardware.
use tidelock::{Backend, sim::SimBackend};

#[derive(Clone, Copy, Debug)]
pub struct Mine;

impl Backend for Mine {
    type Queue = <SimBackend as Backend>::Queue;
}

fn main() {}
