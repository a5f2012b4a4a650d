//! The thread of a device that watches records for those who do not wait: futures, callbacks, and
//! pinned memory that was dropped while a stream might still be using it.
//!
//! The thread queries the event of the oldest watched record of each stream. When the stream has
//! passed it, the thread wakes tasks, calls closures and frees memory, without a lock. A task that
//! is woken queries the event itself. So no proof about memory relies on this thread but the one
//! for the memory that it frees.

#![forbid(unsafe_code)]

use core::{panic::AssertUnwindSafe, task::Waker, time::Duration};
use std::{
    collections::VecDeque,
    panic::catch_unwind,
    process,
    sync::Arc,
    thread::{self, Thread},
    time::Instant,
};

use tidelock_driver::{
    Backend, Code, DriverError, RawDevice,
    sync::{Mutex, MutexGuard, lock},
};

use super::{
    arriving::PinnedPiece,
    record::{Passed, SharedRecord},
};
use crate::error::{Error, Result};

/// The watched records of one device.
pub(super) struct Watcher<B: Backend> {
    /// The process that made this. A forked process has no thread that watches, and a thread that
    /// it does not have may hold the lock.
    process: u32,
    state: Mutex<State<B>>,
}

/// Ends the thread when the device goes.
pub(super) struct Keeper<B: Backend>(Arc<Watcher<B>>);

struct State<B: Backend> {
    /// At most one for each stream. An empty one is used again for another stream.
    queues: Vec<Queue<B>>,
    /// The thread, while there is one.
    thread: Option<Thread>,
    /// Whether the thread found nothing to watch and sleeps until it is woken.
    is_idle: bool,
    /// Whether the device is gone.
    is_closed: bool,
    /// The ticket that was given last.
    ticket: u64,
    /// The bytes of memory that waits to be freed.
    bytes: usize,
}

/// What waits for the records of one stream.
struct Queue<B: Backend> {
    stream: u64,
    /// In the order of the records, and of the tickets for one record.
    entries: VecDeque<Entry<B>>,
    /// Whether the latest query was refused.
    was_refused: bool,
}

struct Entry<B: Backend> {
    record: Arc<SharedRecord<B>>,
    ticket: u64,
    waiter: Waiter,
}

/// What happens when a record was passed.
pub(super) enum Waiter {
    /// A task is woken.
    Wake(Waker),
    /// A closure is called with the answer of the query.
    Call(Callback),
    /// Memory is freed.
    Free(PinnedPiece),
}

pub(super) type Callback = Box<dyn FnOnce(Result<()>) + Send>;

/// For this long after something was passed, the thread queries without sleeping.
const SPIN: Duration = Duration::from_micros(50);

/// Then it sleeps for this share of the time since.
const SHARE: f32 = 0.25;

/// It sleeps no shorter and no longer than this.
const SLEEP: (Duration, Duration) = (Duration::from_micros(20), Duration::from_micros(50));

/// The thread ends when it has had nothing to watch for this long.
const LINGER: Duration = Duration::from_secs(1);

impl<B: Backend> Keeper<B> {
    /// The watcher of the device of `record`.
    pub(super) fn of(record: &SharedRecord<B>) -> Arc<Watcher<B>> {
        Arc::clone(&record.device().shared().keep::<Keeper<B>>().0)
    }

    /// The watcher of `device`, if it has watched anything.
    pub(crate) fn existing(device: &B::Device) -> Option<Arc<Watcher<B>>> {
        Some(Arc::clone(&device.shared().kept::<Keeper<B>>()?.0))
    }
}

impl<B: Backend> Watcher<B> {
    /// Watches `record` for `waiter`, which is made if this succeeds. Returns a ticket to pass to
    /// the other functions, which is not 0.
    ///
    /// # Errors
    /// `OUT_OF_MEMORY` if the host has no memory for the entry, or starts no thread;
    /// `NOT_INITIALIZED` in a forked process.
    pub(super) fn watch(
        self: &Arc<Self>,
        record: &Arc<SharedRecord<B>>,
        waiter: impl FnOnce() -> Waiter,
    ) -> Result<u64> {
        let mut state = self.lock().ok_or(DriverError::new(WATCHING, Code::NOT_INITIALIZED))?;
        self.start(&mut state)?;
        let queue = state.queue(record.stream())?;
        let ticket = state.next_ticket();
        state.add(queue, Entry { record: Arc::clone(record), ticket, waiter: waiter() });
        state.rouse();
        Ok(ticket)
    }

    /// Frees `piece` once `record` was passed.
    ///
    /// If there is no thread and none can be started, the memory is freed by the next call that
    /// starts one, or by [`free_passed`](Watcher::free_passed).
    ///
    /// Returns false, and leaks the memory, in a forked process, or if the host has no memory for the
    /// entry.
    pub(super) fn free_behind(self: &Arc<Self>, record: &Arc<SharedRecord<B>>, piece: PinnedPiece) -> bool {
        let Some(mut state) = self.lock() else { return false };
        let Ok(queue) = state.queue(record.stream()) else { return false };
        let ticket = state.next_ticket();
        state.bytes = state.bytes.saturating_add(piece.bytes());
        state.add(queue, Entry { record: Arc::clone(record), ticket, waiter: Waiter::Free(piece) });
        // Ignored, as the documentation says.
        let _ = self.start(&mut state);
        state.rouse();
        true
    }

    /// Makes the entry of `ticket` wake `waker`, and returns whether there is such an entry.
    pub(super) fn wakes(&self, record: &SharedRecord<B>, ticket: u64, waker: Waker) -> bool {
        let Some(mut state) = self.lock() else { return false };
        let Some(entry) = state.entry(record, ticket) else { return false };
        let before = core::mem::replace(&mut entry.waiter, Waiter::Wake(waker));
        // Dropping a waker may run any code.
        drop(state);
        contain(|| drop(before));
        true
    }

    /// Removes the entry of `ticket`, if it is still there.
    pub(super) fn forget(&self, record: &SharedRecord<B>, ticket: u64) {
        let Some(mut state) = self.lock() else { return };
        let entry = state.remove(record, ticket);
        drop(state);
        contain(|| drop(entry));
    }

    /// Frees memory whose records were passed, on the calling thread. Cost: a driver call for each
    /// record, and for each stream one more.
    pub(super) fn free_passed(&self) {
        let mut queue = 0_usize;
        loop {
            let Some(state) = self.lock() else { return };
            let Some(entries) = state.queues.get(queue).map(|queue| &queue.entries) else { return };
            let oldest = entries.iter().find(|entry| matches!(entry.waiter, Waiter::Free(_)));
            let oldest = oldest.map(|entry| (Arc::clone(&entry.record), entry.ticket));
            drop(state);
            // A failure is left to the thread.
            let Some((Ok(Some(passed)), record, ticket)) =
                oldest.map(|(record, ticket)| (record.query(), record, ticket))
            else {
                queue = queue.saturating_add(1);
                continue;
            };
            let entry = self.lock().and_then(|mut state| state.remove(&record, ticket));
            if let Some(entry) = entry {
                entry.resolve(Ok(passed));
            }
        }
    }

    /// The bytes of memory that waits to be freed.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.lock().map_or(0, |state| state.bytes)
    }

    /// `None` in a forked process.
    fn lock(&self) -> Option<MutexGuard<'_, State<B>>> {
        (self.process == process::id()).then(|| lock(&self.state))
    }

    /// Starts the thread, if there is none.
    fn start(self: &Arc<Self>, state: &mut State<B>) -> Result<()> {
        if state.thread.is_none() {
            let watcher = Arc::clone(self);
            let started = thread::Builder::new().name("tidelock-watcher".into()).spawn(move || watcher.run());
            let started = started.map_err(|_| DriverError::new(WATCHING, Code::OUT_OF_MEMORY))?;
            state.thread = Some(started.thread().clone());
            state.is_idle = false;
        }
        Ok(())
    }

    /// The thread.
    fn run(&self) {
        let mut since = Instant::now();
        loop {
            if self.round() {
                since = Instant::now();
                continue;
            }
            let mut state = lock(&self.state);
            let waited = since.elapsed();
            if state.queues.iter().any(|queue| !queue.entries.is_empty()) {
                drop(state);
                if waited < SPIN {
                    thread::yield_now();
                } else {
                    thread::sleep(waited.mul_f32(SHARE).clamp(SLEEP.0, SLEEP.1));
                }
            } else if state.is_closed || waited >= LINGER {
                state.thread = None;
                state.queues = Vec::new();
                return;
            } else {
                state.is_idle = true;
                drop(state);
                thread::park_timeout(LINGER);
                if !lock(&self.state).is_idle {
                    since = Instant::now();
                }
            }
        }
    }

    /// Queries the oldest record of each stream. Returns whether one was passed or refused.
    fn round(&self) -> bool {
        let mut any = false;
        let mut at = 0_usize;
        loop {
            let oldest = match lock(&self.state).queues.get(at) {
                Some(queue) => queue.entries.front().map(|entry| Arc::clone(&entry.record)),
                None => return any,
            };
            if let Some(record) = oldest {
                any |= self.query(record);
            }
            at = at.saturating_add(1);
        }
    }

    /// Queries `record`, and resolves what waits for it and for earlier records of its stream.
    /// Returns whether anything was resolved.
    ///
    /// A refused query is repeated once, and then it is the answer. If the device is broken, it is
    /// the answer for all records of the stream at once.
    fn query(&self, record: Arc<SharedRecord<B>>) -> bool {
        let (stream, mut submitted) = (record.stream(), record.at().submitted());
        let answer = match record.query() {
            Ok(None) => return false,
            Ok(Some(passed)) => Ok(passed),
            Err(error) => Err(error),
        };
        let is_broken = matches!(answer, Err(error) if error.code.is_sticky());
        if is_broken {
            submitted = u64::MAX;
        }
        // So that nothing of it is left when its waiters go on.
        drop(record);
        let was_refused = lock(&self.state).refused(stream, answer.is_err());
        if answer.is_err() && !is_broken && !was_refused {
            return false;
        }
        loop {
            let Some(entry) = lock(&self.state).pop(stream, submitted) else { return true };
            entry.resolve(answer);
        }
    }
}

impl<B: Backend> State<B> {
    /// The index of the queue of `stream`, with room for one more entry.
    fn queue(&mut self, stream: u64) -> Result<usize> {
        let no_memory = |_| DriverError::new(WATCHING, Code::OUT_OF_MEMORY);
        let of_stream = self.queues.iter().position(|queue| queue.stream == stream);
        let at = of_stream.or_else(|| self.queues.iter().position(|queue| queue.entries.is_empty()));
        let at = at.unwrap_or(self.queues.len());
        if at == self.queues.len() {
            self.queues.try_reserve(1).map_err(no_memory)?;
            self.queues.push(Queue { stream, entries: VecDeque::new(), was_refused: false });
        }
        if let Some(queue) = self.queues.get_mut(at) {
            queue.entries.try_reserve(1).map_err(no_memory)?;
            if queue.stream != stream {
                *queue = Queue { stream, entries: core::mem::take(&mut queue.entries), was_refused: false };
            }
        }
        Ok(at)
    }

    fn next_ticket(&mut self) -> u64 {
        self.ticket = self.ticket.saturating_add(1);
        self.ticket
    }

    /// Adds an entry whose ticket is the latest to the queue of this index.
    fn add(&mut self, queue: usize, entry: Entry<B>) {
        let Some(Queue { entries, .. }) = self.queues.get_mut(queue) else { return };
        let submitted = entry.record.at().submitted();
        let at = entries.partition_point(|other| other.record.at().submitted() <= submitted);
        entries.insert(at, entry);
    }

    /// Wakes the thread, if it has had nothing to watch.
    fn rouse(&mut self) {
        if core::mem::take(&mut self.is_idle)
            && let Some(thread) = &self.thread
        {
            thread.unpark();
        }
    }

    /// The queue of the stream of `record`, and the place of `ticket` in it.
    fn place(&mut self, record: &SharedRecord<B>, ticket: u64) -> Option<(&mut Queue<B>, usize)> {
        let queue = self.queues.iter_mut().find(|queue| queue.stream == record.stream())?;
        let key = (record.at().submitted(), ticket);
        let at = queue.entries.binary_search_by_key(&key, |entry| (entry.record.at().submitted(), entry.ticket));
        at.ok().map(|at| (queue, at))
    }

    fn entry(&mut self, record: &SharedRecord<B>, ticket: u64) -> Option<&mut Entry<B>> {
        let (queue, at) = self.place(record, ticket)?;
        queue.entries.get_mut(at)
    }

    fn remove(&mut self, record: &SharedRecord<B>, ticket: u64) -> Option<Entry<B>> {
        let (queue, at) = self.place(record, ticket)?;
        let entry = queue.entries.remove(at);
        self.taken(entry)
    }

    /// Removes the oldest entry of `stream`, if its record is not later than `submitted`.
    fn pop(&mut self, stream: u64, submitted: u64) -> Option<Entry<B>> {
        let queue = self.queues.iter_mut().find(|queue| queue.stream == stream)?;
        let entry = queue.entries.pop_front_if(|entry| entry.record.at().submitted() <= submitted);
        self.taken(entry)
    }

    fn taken(&mut self, entry: Option<Entry<B>>) -> Option<Entry<B>> {
        if let Some(Entry { waiter: Waiter::Free(piece), .. }) = &entry {
            self.bytes = self.bytes.saturating_sub(piece.bytes());
        }
        entry
    }

    /// Remembers whether the latest query of `stream` was refused, and returns whether the one
    /// before it was.
    fn refused(&mut self, stream: u64, is_refused: bool) -> bool {
        let queue = self.queues.iter_mut().find(|queue| queue.stream == stream);
        queue.is_some_and(|queue| core::mem::replace(&mut queue.was_refused, is_refused))
    }
}

impl<B: Backend> Entry<B> {
    /// Does what `waiter` says. `answer` is that of a query of the record or of a later one of its
    /// stream.
    fn resolve(self, answer: Result<Passed, DriverError>) {
        let Entry { record, waiter, .. } = self;
        match waiter {
            Waiter::Wake(waker) => {
                drop(record);
                contain(|| waker.wake());
            }
            Waiter::Call(callback) => {
                drop(record);
                contain(|| callback(answer.map(drop).map_err(Error::from)));
            }
            Waiter::Free(piece) => {
                let bytes = piece.bytes();
                if !answer.is_ok_and(|passed| piece.free(&record, passed)) {
                    record.device().shared().count_leak(bytes);
                }
            }
        }
    }
}

/// Calls `f`, and keeps a panic of it, and of the drop of its payload, from the thread.
fn contain(f: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(f))
        && let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload)))
    {
        core::mem::forget(second);
    }
}

/// The name of the operation in errors.
const WATCHING: &str = "watching a record";

impl<B: Backend> Default for Keeper<B> {
    fn default() -> Self {
        let state = State { queues: Vec::new(), thread: None, is_idle: false, is_closed: false, ticket: 0, bytes: 0 };
        Keeper(Arc::new(Watcher { process: process::id(), state: Mutex::new(state) }))
    }
}

impl<B: Backend> Drop for Keeper<B> {
    /// Nothing is watched any more: each watched record keeps the device alive.
    fn drop(&mut self) {
        if let Some(mut state) = self.0.lock() {
            state.is_closed = true;
            state.rouse();
        }
    }
}
