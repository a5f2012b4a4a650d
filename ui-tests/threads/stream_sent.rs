// R2: a stream stays on the thread that opened it.
// Instead: open a stream of its own on the other thread.
use tidelock::{Stream, sim::Sim};

fn on_another_thread<F: FnOnce() + Send>(_: F) {}

pub fn overlap(mut stream: Stream<Sim<'_>>) {
    on_another_thread(move || drop(stream.synchronize()));
}

fn main() {}
