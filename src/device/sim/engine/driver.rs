//! The handle of the device, and the state behind it.

use core::{
    cell::Cell,
    fmt, ptr,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};
use std::sync::Arc;

use tidelock_driver::{DeviceState, PoolList};

use super::{
    call::{Call, Counts},
    calls_stream::Event,
    gate::{Fault, Gate, Verdict},
    heap::Heap,
    op::{Op, Recycler},
    oracle::{self, Use},
    orphans::Orphans,
    pinned,
    report::{Report, Sums, Traffic},
    slots::{EventId, PoolId, Slots, StreamId},
    stream::Stream,
};
use crate::{
    device::{code::Code, sim::options::Options},
    sync::{Mutex, lock},
};

/// The findings that a report holds at most.
const FINDINGS: usize = 64;

/// What the driver answers to calls from inside a task.
const NOT_PERMITTED: Code = Code(800);

thread_local! {
    /// The engine whose stream runs on this thread, by its address; 0 elsewhere.
    static WORKER: Cell<usize> = const { Cell::new(0) };
}

/// Whether the calling thread is that of a stream, of any engine.
pub(super) fn is_inside_a_kernel() -> bool {
    WORKER.get() != 0
}

/// A simulated device and its driver.
///
/// A handle: clones are the same device. When the last one is dropped, work that has not begun is discarded, the threads
/// of the streams are joined, and all memory of the device and all pinned memory it allocated is released.
///
/// Calls from inside a [`Task`](super::Task) of the same engine are answered with code 800 (`NOT_PERMITTED`), as by the driver.
#[derive(Clone)]
pub struct Engine {
    owner: Arc<Owner>,
}

/// What the handles share and the threads of the streams do not: its Drop is the end of the device.
struct Owner {
    shared: Arc<Shared>,
}

/// The device, as the calls and the threads of the streams see it.
///
/// No lock in here is taken while another one is held, except the pinned table under the heap and any of them under the list
/// of orphans or of pools, and none is held while waiting for a stream.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) id: u64,
    pub(super) options: Options,
    pub(super) gate: Gate,
    /// The code the device is broken with, 0 while it is not.
    sticky: AtomicU32,
    stopping: AtomicBool,
    /// What the typed layer keeps for the device.
    device_state: DeviceState<EventId>,
    /// The pools that the streams of the typed layer allocate from.
    pools: PoolList<PoolId>,
    /// Whether sources that shall be read during the call are read in stream order, by way of sabotage.
    pub(super) reads_late: AtomicBool,
    pub(super) streams: Mutex<Slots<Arc<Stream>>>,
    pub(super) events: Mutex<Slots<Event>>,
    pub(super) heap: Mutex<Heap>,
    pub(super) recycler: Recycler,
    pub(super) orphans: Orphans,
    pub(super) traffic: Sums,
    findings: Mutex<Vec<String>>,
}

impl Engine {
    /// A device with `options`, idle and empty.
    ///
    /// It has 4 TiB of addresses to itself until the last handle is dropped. There are 8192 such ranges: while as many
    /// engines live, another one answers each allocation of device memory with `OUT_OF_MEMORY`.
    #[inline]
    #[must_use]
    pub fn new(options: Options) -> Engine {
        // From 1 on: 0 is the process itself.
        static ENGINES: AtomicU64 = AtomicU64::new(1);
        let id = ENGINES.fetch_add(1, Ordering::Relaxed);
        let shared = Shared {
            id,
            options,
            gate: Gate::new(),
            sticky: AtomicU32::new(0),
            stopping: AtomicBool::new(false),
            device_state: DeviceState::new(),
            pools: PoolList::new(),
            reads_late: AtomicBool::new(false),
            streams: Mutex::new(Slots::new(id)),
            events: Mutex::new(Slots::new(id)),
            heap: Mutex::new(Heap::new(id, options.memory_limit)),
            recycler: Recycler::new(),
            orphans: Orphans::default(),
            traffic: Sums::default(),
            findings: Mutex::default(),
        };
        shared.watch();
        Engine { owner: Arc::new(Owner { shared: Arc::new(shared) }) }
    }

    /// The ordinal the device goes by in messages.
    #[inline]
    #[must_use]
    pub fn ordinal(&self) -> usize {
        self.shared().options.ordinal
    }

    /// An address that no other live engine of the process has.
    #[inline]
    #[must_use]
    pub fn address(&self) -> usize {
        self.shared().address()
    }

    /// What the typed layer keeps for the device.
    #[inline]
    pub(in crate::device::sim) fn device_state(&self) -> &DeviceState<EventId> {
        &self.shared().device_state
    }

    /// The pools that the streams of the typed layer allocate from.
    pub(in crate::device::sim) fn pools(&self) -> &PoolList<PoolId> {
        &self.shared().pools
    }

    /// Makes calls fail as `fault` says, instead of what was said before.
    #[inline]
    pub fn fail(&self, fault: Fault) {
        self.shared().gate.fail(fault);
    }

    /// Makes the nth call fail that `first` names, and calls behind it as `second` says, counted from there: a failure that
    /// meets the way out of another one.
    #[inline]
    pub fn fail_in_turn(&self, first: Fault, second: Fault) {
        self.shared().gate.fail_in_turn(first, second);
    }

    /// The calls of the kind that [`fail`](Engine::fail) named last, made since then and until [`disarm`](Engine::disarm).
    #[inline]
    #[must_use]
    pub fn calls_since_arming(&self) -> u64 {
        self.shared().gate.calls_since_arming()
    }

    /// How often each call was made so far, failed ones included.
    #[inline]
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared().gate.counts()
    }

    /// Starts or stops logging the calls. The log grows by a byte per call, on the calling thread.
    #[inline]
    pub fn log(&self, on: bool) {
        self.shared().gate.log(on);
    }

    /// The calls logged since the last taking, in order; empties the log.
    #[inline]
    #[must_use]
    pub fn take_log(&self) -> Vec<Call> {
        self.shared().gate.take_log()
    }

    /// The copies executed so far.
    #[inline]
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.shared().traffic.read()
    }

    /// What the device holds, and what went wrong on it. Not a driver call: works on a broken device, and is not counted.
    #[inline]
    #[must_use]
    pub fn report(&self) -> Report {
        let shared = self.shared();
        let (allocations, allocated_bytes) = lock(&shared.heap).live();
        let (pinned_allocations, pinned_bytes) = pinned::held_by(shared.id);
        let mut findings = lock(&shared.findings).clone();
        findings.extend(shared.races());
        Report {
            allocations,
            allocated_bytes,
            pinned_allocations,
            pinned_bytes,
            registered: pinned::registered_by(shared.id),
            streams: lock(&shared.streams).values().count(),
            events: lock(&shared.events).values().count(),
            pools: lock(&shared.heap).pools(),
            sticky: shared.sticky(),
            findings,
        }
    }

    /// Ok as long as the oracle has found no race; otherwise all of them in words, a line each.
    ///
    /// Always ok with [`Options::oracle`] off. Like [`report`](Engine::report) it is no driver call. For the end of a test:
    /// `device.engine().check().unwrap()`.
    ///
    /// # Errors
    /// The races: which two operations conflict, where, and what order is missing.
    #[inline]
    pub fn check(&self) -> Result<(), String> {
        let races = self.shared().races();
        if races.is_empty() { Ok(()) } else { Err(races.join("\n")) }
    }

    /// Tells the oracle that the host touches memory which a stream may be using.
    ///
    /// The typed layer does so by itself; whoever drives the engine by hand and wants the host's own accesses checked does it
    /// where they happen. Costs a load and a branch when no engine of the process is watched.
    ///
    /// What is said here counts for ordered from then on: an access that does not happen hides races of the programs that
    /// rely on the oracle, and reports others that are none.
    ///
    /// # Safety
    /// - The host makes the access here, on the calling thread, or the memory belongs to no buffer of the typed layer.
    #[inline]
    pub unsafe fn host_touches(&self, touched: Use) {
        if oracle::is_watching() {
            oracle::host_touches(touched, "the host's own access");
        }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.owner.shared
    }

    /// The way of every driver call: the gate, the checks, the body. Bodies make no calls themselves.
    pub(super) fn call<R>(&self, call: Call, body: impl FnOnce(&Arc<Shared>) -> Result<R, Code>) -> Result<R, Code> {
        self.call_or(call, None, body)
    }

    /// As [`call`](Engine::call), for a call that can pretend to have been made: then it answers `pretended`.
    pub(super) fn call_or<R>(
        &self,
        call: Call,
        pretended: Option<R>,
        body: impl FnOnce(&Arc<Shared>) -> Result<R, Code>,
    ) -> Result<R, Code> {
        let shared = self.shared();
        let verdict = shared.gate.pass(call)?;
        if WORKER.get() == shared.address() {
            return Err(NOT_PERMITTED);
        }
        shared.running()?;
        match pretended {
            Some(answer) if verdict == Verdict::Pretended => Ok(answer),
            _ => body(shared),
        }
    }
}

impl fmt::Debug for Engine {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { id, options, .. } = &**self.shared();
        f.debug_struct("Engine").field("id", id).field("options", options).finish_non_exhaustive()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let shared = &self.shared;
        shared.stopping.store(true, Ordering::SeqCst);
        let streams: Vec<Arc<Stream>> = lock(&shared.streams).values().map(Arc::clone).collect();
        streams.iter().for_each(|stream| stream.close());
        shared.wake_all();
        streams.iter().for_each(|stream| stream.join());
        shared.unwatch();
        pinned::release(shared.id);
    }
}

impl Shared {
    /// Appends `op` to a stream and answers its ticket. Everything that is ever enqueued comes through here.
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

    fn sticky(&self) -> Option<Code> {
        Some(self.sticky.load(Ordering::SeqCst)).filter(|code| *code != 0).map(Code)
    }

    /// Ok while the device is neither broken nor at its end.
    pub(super) fn running(&self) -> Result<(), Code> {
        if let Some(code) = self.sticky() {
            return Err(code);
        }
        if self.stopping.load(Ordering::SeqCst) { Err(Code::DEINITIALIZED) } else { Ok(()) }
    }

    /// Breaks the device for good, unless it is broken already, and wakes all who wait for it.
    pub(super) fn break_device(&self, code: Code, words: String) {
        {
            let mut findings = lock(&self.findings);
            if findings.len() < FINDINGS {
                findings.push(words);
            }
        }
        // A task may answer with code 0 as an error; it stays one.
        let code = if code.0 == 0 { Code::UNKNOWN } else { code };
        if self.sticky.compare_exchange(0, code.0, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            self.broke();
            self.wake_all();
        }
    }

    pub(super) fn is_doomed(&self) -> bool {
        self.device_state.leaks_shared()
    }

    fn wake_all(&self) {
        let streams: Vec<Arc<Stream>> = lock(&self.streams).values().map(Arc::clone).collect();
        streams.iter().for_each(|stream| stream.progress.wake());
    }

    fn address(&self) -> usize {
        ptr::from_ref(self).addr()
    }

    /// Makes the calling thread one of this engine's.
    pub(super) fn mark_worker(&self) {
        WORKER.set(self.address());
    }
}
