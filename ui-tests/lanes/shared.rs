// R2: one thread at a time uses the stream of a lane.
// Instead: `Arc<Mutex<Lane<_>>>`, or a lane for each thread.
use std::{sync::Arc, thread};
use tidelock::{Result, sim::SimBackend, stream::Lane};

pub fn share(lane: Arc<Lane<SimBackend>>) -> thread::JoinHandle<Result<()>> {
    thread::spawn(move || lane.enter(|_, _| ()))
}

fn main() {}
