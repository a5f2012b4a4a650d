// R2: a stream and its contexts stay on the thread that opened the stream.
// Instead: open a stream of its own on the other thread.
use tidelock::{Ctx, sim::Sim};

fn on_another_thread<F: FnOnce() + Send>(_: F) {}

pub fn overlap(ctx: Ctx<'_, Sim<'_>>) {
    on_another_thread(move || drop(ctx.memory_info()));
}

fn main() {}
