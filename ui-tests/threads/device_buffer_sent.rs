// R2: memory of a stream is freed on the stream's own thread.
// Instead: send host or pinned memory: `Buffer<f32, Host>` is `Send`.
use tidelock::{Buffer, DeviceLocation};

fn to_another_thread<T: Send>(_: T) {}

pub fn hand_over<L: DeviceLocation>(logits: Buffer<f32, L>) {
    to_another_thread(logits);
}

fn main() {}
