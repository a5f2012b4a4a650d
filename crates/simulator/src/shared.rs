//! The state of a device, as the calls and the threads of its streams see it.

#![forbid(unsafe_code)]

use core::{cell::Cell, ptr, sync::atomic::AtomicBool};
use std::sync::Arc;

use tidelock_driver::{DeviceState, code::Code};

use super::{
    event::{Clock, Event},
    fault_injection::FaultInjection,
    health::Health,
    heap::Heap,
    op::{Op, Recycler},
    options::Options,
    orphans::Orphans,
    report::Sums,
    slots::{Slots, StreamId},
    stream::Stream,
    sync::{Mutex, lock},
};

/// The findings that a report holds at most.
const FINDINGS: usize = 64;

thread_local! {
    /// The device whose stream runs on this thread, by its address; 0 elsewhere.
    static WORKER: Cell<usize> = const { Cell::new(0) };
}

/// Whether the calling thread is that of a stream, of any device.
pub(super) fn is_inside_a_kernel() -> bool {
    WORKER.get() != 0
}

/// The device, as the calls and the threads of the streams see it.
///
/// No lock in here is taken while another one is held, except the pinned table under the heap and
/// any of them under the list of orphans, and none is held while waiting for a stream.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) id: u64,
    pub(super) options: Options,
    pub(super) faults: FaultInjection,
    pub(super) health: Health,
    /// What the typed layer keeps for the device.
    pub(super) device_state: DeviceState,
    /// Whether sources that shall be read during the call are read in stream order, by way of
    /// sabotage.
    pub(super) reads_late: AtomicBool,
    pub(super) streams: Mutex<Slots<Arc<Stream>>>,
    pub(super) events: Mutex<Slots<Event>>,
    pub(super) clock: Clock,
    pub(super) heap: Mutex<Heap>,
    pub(super) recycler: Recycler,
    pub(super) orphans: Orphans,
    pub(super) traffic: Sums,
    pub(super) findings: Mutex<Vec<String>>,
}

impl Shared {
    pub(super) fn new(id: u64, options: Options) -> Self {
        Shared {
            id,
            options,
            faults: FaultInjection::new(),
            health: Health::new(),
            device_state: DeviceState::new(),
            reads_late: AtomicBool::new(false),
            streams: Mutex::new(Slots::new(id)),
            events: Mutex::new(Slots::new(id)),
            clock: Clock::new(),
            heap: Mutex::new(Heap::new(id, options.memory_limit)),
            recycler: Recycler::new(),
            orphans: Orphans::default(),
            traffic: Sums::default(),
            findings: Mutex::default(),
        }
    }

    /// Appends `op` to a stream and answers its ticket. Everything that is ever enqueued comes
    /// through here.
    pub(super) fn submit(&self, stream: &Stream, op: Op) -> Result<u64, Code> {
        stream.push(op, self)
    }

    pub(super) fn stream(&self, id: StreamId) -> Result<Arc<Stream>, Code> {
        lock(&self.streams).get(id.0).map(Arc::clone).ok_or(Code::INVALID_HANDLE)
    }

    /// Runs `body` on the heap, then drops what it released, unlocked.
    pub(super) fn with_heap<R>(&self, body: impl FnOnce(&mut Heap) -> R) -> R {
        let mut heap = lock(&self.heap);
        let answer = body(&mut heap);
        heap.dead().iter().for_each(|block| self.vanished(block.start(), block.capacity()));
        if let Some(mut dead) = heap.take_dead() {
            drop(heap);
            dead.clear();
            lock(&self.heap).put_dead(dead);
        }
        answer
    }

    /// Ok while the device is neither broken nor at its end.
    pub(super) fn running(&self) -> Result<(), Code> {
        self.health.running()
    }

    /// Breaks the device, unless it is broken already, and wakes all waiters. A broken device stays
    /// broken.
    pub(super) fn break_device(&self, code: Code, words: String) {
        {
            let mut findings = lock(&self.findings);
            if findings.len() < FINDINGS {
                findings.push(words);
            }
        }
        if self.health.break_with(code) {
            self.broke();
            self.wake_all();
        }
    }

    pub(super) fn wake_all(&self) {
        let streams: Vec<Arc<Stream>> = lock(&self.streams).values().map(Arc::clone).collect();
        streams.iter().for_each(|stream| stream.progress.wake());
    }

    pub(super) fn address(&self) -> usize {
        ptr::from_ref(self).addr()
    }

    /// Makes the calling thread one of this device's.
    pub(super) fn mark_worker(&self) {
        WORKER.set(self.address());
    }

    /// Whether the calling thread is that of a stream of this device.
    pub(super) fn is_mine(&self) -> bool {
        WORKER.get() == self.address()
    }
}
