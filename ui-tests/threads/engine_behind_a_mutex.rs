// R2: a lock does not move a stream's memory to another thread.
// Instead: the thread that serves requests opens the stream, and the others send it messages.
use std::sync::{Arc, Mutex};
use tidelock::{
    BatchCopy, Buffer, Ctx, Stack, State, Stream,
    sim::Sim,
    stream::{Staged, StreamAlloc},
};

pub struct Engine<'s> {
    pub stream: Stream<Sim<'s>>,
    pub kv: Buffer<f32, Sim<'s>>,
    pub logits: Buffer<f32, Staged<Sim<'s>>>,
    pub ctx: Ctx<'s, Sim<'s>, StreamAlloc<Sim<'s>>>,
    pub stack: Stack<Sim<'s>>,
    pub batch: BatchCopy,
    pub tokens: State<u32, Sim<'s>>,
}

fn spawn<F: FnOnce() + Send>(_: F) {}

pub fn serve(engine: Arc<Mutex<Engine<'_>>>) {
    spawn(move || {
        let mut engine = engine.lock().unwrap();
        let _ = engine.stream.synchronize();
    });
}

fn main() {}
