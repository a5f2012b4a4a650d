// R2: memory of a stream is used through the stream's own thread.
// Instead: send host memory.
use tidelock::{View, sim::Sim};

fn to_another_thread<T: Send>(_: T) {}

pub fn hand_over(logits: View<'_, f32, Sim<'_>>) {
    to_another_thread(logits);
}

fn main() {}
