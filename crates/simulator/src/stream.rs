//! A stream: a bounded queue of operations and the thread that runs them in order.

#![forbid(unsafe_code)]

use core::{
    hint,
    panic::AssertUnwindSafe,
    sync::atomic::{AtomicU64, Ordering},
};
use std::{
    collections::VecDeque,
    io,
    panic::catch_unwind,
    sync::Arc,
    thread::{self, JoinHandle},
};

use super::{
    Shared,
    failure::Failure,
    lock,
    op::{DEPTH, Op},
    progress::{Progress, SPINS},
    race_detector::Timeline,
    rng::Rng,
    slots::StreamId,
    task::Memory,
};
use tidelock_driver::code::Code;

use crate::sync::{self, Condvar, Mutex};

/// One stream. It is closed once, by being destroyed or with the device; its thread then runs or
/// skips what is left.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) priority: i32,
    /// What the race detector calls the stream.
    pub(super) timeline: Timeline,
    pub(super) progress: Arc<Progress>,
    queue: Mutex<Queue>,
    work: Condvar,
    /// The ticket of the operation enqueued last. Written under `queue`.
    submitted: AtomicU64,
    worker: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Queue {
    ops: VecDeque<Op>,
    closed: bool,
    /// Whether the thread of the stream waits for work.
    idle: bool,
}

impl Stream {
    pub(super) fn new(priority: i32, timeline: Timeline) -> Self {
        Stream {
            priority,
            timeline,
            progress: Arc::new(Progress::new()),
            queue: Mutex::new(Queue { ops: VecDeque::with_capacity(DEPTH), closed: false, idle: false }),
            work: Condvar::new(),
            submitted: AtomicU64::new(0),
            worker: Mutex::default(),
        }
    }

    /// Starts the thread of the stream.
    pub(super) fn start(self: &Arc<Self>, id: StreamId, shared: &Arc<Shared>) -> io::Result<()> {
        let (stream, shared) = (Arc::clone(self), Arc::clone(shared));
        let worker = thread::Builder::new().name(format!("sim-stream-{}", id.0.number()));
        *lock(&self.worker) = Some(worker.spawn(move || stream.work(id, &shared))?);
        Ok(())
    }

    /// The ticket of the operation enqueued last.
    pub(super) fn submitted(&self) -> u64 {
        self.submitted.load(Ordering::SeqCst)
    }

    /// Appends `op`, waiting for room if the queue is full, and answers its ticket.
    pub(super) fn push(&self, op: Op, shared: &Shared) -> Result<u64, Code> {
        let mut queue = lock(&self.queue);
        loop {
            if queue.closed {
                return Err(Code::INVALID_HANDLE);
            }
            if queue.ops.len() < DEPTH {
                break;
            }
            drop(queue);
            // Until the queue is half empty, so that the two threads do not take turns from here
            // on.
            let half = u64::try_from(DEPTH / 2).unwrap_or(0);
            self.progress.wait(self.submitted().saturating_sub(half), &shared.health)?;
            queue = lock(&self.queue);
        }
        queue.ops.push_back(op);
        let ticket = self.submitted().wrapping_add(1);
        self.submitted.store(ticket, Ordering::SeqCst);
        let idle = core::mem::replace(&mut queue.idle, false);
        drop(queue);
        if idle {
            self.work.notify_one();
        }
        Ok(ticket)
    }

    /// Takes no more operations from now on; the thread ends after the last.
    pub(super) fn close(&self) {
        lock(&self.queue).closed = true;
        self.work.notify_one();
    }

    /// Waits for the thread to end, unless it is the calling one.
    pub(super) fn join(&self) {
        let worker = lock(&self.worker).take();
        if let Some(worker) = worker
            && worker.thread().id() != thread::current().id()
        {
            // An Err would be a panic outside the operations, and there is nothing more to clean up
            // after one.
            let _ = worker.join();
        }
    }

    fn work(&self, id: StreamId, shared: &Arc<Shared>) {
        shared.mark_worker();
        let memory = Memory::new(Arc::clone(shared));
        let mut rng = Rng::new(shared.options.seed, id.0.number());
        let mut ticket = 0_u64;
        while let Some(op) = self.next(ticket) {
            ticket = ticket.wrapping_add(1);
            if shared.running().is_ok() {
                rng.dawdle(shared.options.delay);
            }
            let answer = catch_unwind(AssertUnwindSafe(|| {
                // Looked at again after the delay, during which the device may have been broken.
                if shared.running().is_ok() { op.run(shared, &mut rng, &memory) } else { Ok(()) }
            }));
            let failure = match answer {
                Ok(Ok(())) => None,
                Ok(Err(failure)) => Some(failure),
                Err(payload) => {
                    // A payload may panic when it is dropped, which would end the thread with work
                    // in its queue.
                    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                        core::mem::forget(again);
                    }
                    memory.finish();
                    Some(Failure { code: Code::LAUNCH_FAILED, words: "a task panicked".to_owned() })
                }
            };
            if let Some(Failure { code, words }) = failure {
                shared.break_device(code, format!("stream {}, operation {ticket}: {words}: {code}", id.0.number()));
            }
            self.progress.reach(ticket);
            shared.free_orphans();
        }
        // The handle of a destroyed stream may live on in events; its queue need not.
        lock(&self.queue).ops = VecDeque::new();
    }

    /// The next operation after `ticket`, `None` once the stream is closed and empty.
    fn next(&self, ticket: u64) -> Option<Op> {
        for _ in 0..SPINS {
            if self.submitted() != ticket {
                break;
            }
            hint::spin_loop();
        }
        let mut queue = lock(&self.queue);
        loop {
            if let Some(op) = queue.ops.pop_front() {
                return Some(op);
            }
            if queue.closed {
                return None;
            }
            queue.idle = true;
            queue = sync::wait(&self.work, queue);
        }
    }
}
