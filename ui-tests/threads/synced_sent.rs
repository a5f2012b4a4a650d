// R2: the proof that a stream rests stays with the stream.
// Instead: `reclaim` the memory here, and send that.
use tidelock::{Synced, sim::Sim};

fn to_another_thread<T: Send>(_: T) {}

pub fn hand_over(done: Synced<'_, Sim<'_>>) {
    to_another_thread(done);
}

fn main() {}
