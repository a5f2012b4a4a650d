// R2: a pending buffer belongs to its stream.
// Instead: `to_another_thread(pending.detach())`, which any thread waits for or awaits.
use tidelock::{DeviceLocation, stream::Pending};

fn to_another_thread<T: Send>(_: T) {}

pub fn hand_over<L: DeviceLocation>(logits: Pending<f32, L>) {
    to_another_thread(logits);
}

fn main() {}
