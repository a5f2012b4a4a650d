// R3: staged memory is its stream's.
// Instead: `reclaim` it; pinned memory is `Send`.
use tidelock::{Buffer, DeviceLocation, stream::Staged};

fn to_another_thread<T: Send>(_: T) {}

pub fn hand_over<L: DeviceLocation>(logits: Buffer<f32, Staged<L>>) {
    to_another_thread(logits);
}

fn main() {}
