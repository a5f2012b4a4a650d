// R1: a brand cannot be erased, because `Any` is `'static` and a brand is not.
// Instead: keep the buffer's type, brand included: `struct Engine<L: DeviceLocation> { weights: Buffer<f32, L> }`.
use std::any::Any;
use tidelock::{Buffer, DeviceLocation};

pub struct Engine {
    pub weights: Box<dyn Any>,
}

pub fn load<L: DeviceLocation>(weights: Buffer<f32, L>) -> Engine {
    Engine { weights: Box::new(weights) }
}

fn main() {}
