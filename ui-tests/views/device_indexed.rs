// R17: the host does not dereference device memory.
// Instead: copy it to staged memory and `peek` at it when the stream is synchronised.
use tidelock::{Buffer, DeviceLocation};

pub fn first<L: DeviceLocation>(logits: &Buffer<f32, L>) -> f32 {
    logits[0]
}

fn main() {}
