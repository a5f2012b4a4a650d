// R1: a type that holds device memory names the stream.
// Instead: `struct Engine<L: DeviceLocation> { weights: Buffer<f32, L> }`, or `Sim<'s>` if it is for simulated streams only.
use tidelock::{Buffer, sim::Sim};

pub struct Engine {
    pub weights: Buffer<f32, Sim>,
}

fn main() {}
