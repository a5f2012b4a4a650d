// R2: nothing of a stream is shared with another thread: buffers, arena, fences and the stream itself.
// Instead: the thread that serves requests opens the stream, and the others send it messages.
use std::sync::Arc;
use tidelock::{
    BatchCopy, Buffer, Stack, State, Stream, Synced, ViewMut,
    sim::Sim,
    stream::{Env, Pending, Staged},
};

pub struct Engine<'s> {
    pub stream: Stream<Sim<'s>>,
    pub env: Env<'s, 's, Sim<'s>>,
    pub kv: Buffer<f32, Sim<'s>>,
    pub pending: Pending<Buffer<u32, Staged<Sim<'s>>>, Sim<'s>>,
    pub scratch: ViewMut<'s, f32, Sim<'s>>,
    pub done: Synced<'s, Sim<'s>>,
    pub batch: BatchCopy,
    pub tokens: State<u32, Sim<'s>>,
    pub stack: Stack<Sim<'s>>,
}

fn spawn<F: FnOnce() + Send>(_: F) {}

pub fn serve(engine: Arc<Engine<'_>>) {
    spawn(move || drop(engine.stream.is_idle()));
}

fn main() {}
