//! The state of the race detector: clocks of threads and streams, and the accesses to each byte.

#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use super::{
    clock::{Clock, Timeline},
    race::{Access, Kind, Race},
    shadow::{Conflict, Operation, Shadow, Span},
    threads::{Thread, ThreadId},
};
use crate::{
    call::Call,
    slots::StreamId,
    sync::{Mutex, lock},
};

/// How many streams may have ended before the clocks are tidied up.
const STALE: usize = 64;

/// How many ranges of host memory are remembered before the clocks are tidied up; later twice as
/// many as were left.
const RANGES: usize = 4096;

/// How many records a stream may have waited for before those that were recorded over are
/// forgotten.
const WAITED: usize = 64;

/// Its lock is the innermost of all but that of [`ReleaseClock`]: nothing else is locked while it
/// is held.
#[derive(Debug)]
pub(super) struct RaceDetector {
    /// The clock that all threads of the host share, and how often it has grown.
    all_threads: Clock,
    epoch: u64,
    /// The clocks of single threads.
    threads: BTreeMap<ThreadId, Thread>,
    /// The joined clocks of threads that have ended. It orders nothing; reports of races mention
    /// it.
    ended: Clock,
    streams: BTreeMap<Timeline, StreamHistory>,
    last_timeline: Timeline,
    stale: usize,
    /// How many ranges of host memory may be remembered before the clocks are tidied up again.
    ranges: usize,
    devices: BTreeMap<u64, Device>,
    pinned: Shadow,
    pageable: Shadow,
}

/// What a record of an event, or the end of a stream as it is now, stands for.
#[derive(Debug)]
pub(crate) struct ReleaseClock {
    /// What a waiter joins.
    clock: Clock,
    /// The clocks of threads when they gave back what their streams had got by waiting for this
    /// record. The memory behind it is given up after that, by the last waiter of the record.
    returned: Mutex<Clock>,
}

/// A stream, also one that has ended: its accesses are remembered longer.
#[derive(Debug)]
struct StreamHistory {
    device: u64,
    ordinal: usize,
    stream: StreamId,
    /// Whether a wait of a thread counts for that thread only.
    by_thread: bool,
    /// The operations so far.
    tick: u64,
    clock: Clock,
    /// The thread whose clock was joined last, and its version then.
    joined: (ThreadId, u64),
    /// The records that the stream has waited for, as far as they were not recorded over.
    waited: Vec<Weak<ReleaseClock>>,
    live: bool,
    /// The operations that the stream's thread has waited for at the end of a loan.
    settled: u64,
    /// The operations that the threads which have left the stream had waited for.
    left_behind: u64,
}

#[derive(Debug, Default)]
struct Device {
    memory: Shadow,
    findings: Vec<String>,
}

/// Which stream it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) device: u64,
    pub(crate) ordinal: usize,
    pub(super) stream: StreamId,
}

/// Devices, streams, and what the race detector found.
impl RaceDetector {
    pub(super) const fn new() -> Self {
        RaceDetector {
            all_threads: Clock::new(),
            epoch: 0,
            threads: BTreeMap::new(),
            ended: Clock::new(),
            streams: BTreeMap::new(),
            last_timeline: 0,
            stale: 0,
            ranges: RANGES,
            devices: BTreeMap::new(),
            pinned: Shadow::new(),
            pageable: Shadow::new(),
        }
    }

    pub(super) fn begin_device(&mut self, device: u64) {
        self.devices.insert(device, Device::default());
    }

    pub(super) fn end_device(&mut self, device: u64) {
        self.devices.remove(&device);
        let ended: Vec<Timeline> = self
            .streams
            .iter()
            .filter(|(_, history)| history.device == device)
            .map(|(timeline, _)| *timeline)
            .collect();
        for timeline in ended {
            // The threads of the streams have ended: nothing of theirs is under way.
            if let Some(history) = self.streams.get_mut(&timeline) {
                let clock = core::mem::take(&mut history.clock);
                self.all_threads_join(&clock, |history| history.device == device);
            }
            self.end_stream(timeline);
        }
    }

    pub(super) fn new_timeline(&mut self) -> Timeline {
        self.last_timeline = self.last_timeline.wrapping_add(1);
        self.last_timeline
    }

    pub(super) fn begin_stream(&mut self, timeline: Timeline, place: Place, by_thread: bool) {
        let Place { device, ordinal, stream } = place;
        let (clock, waited) = (Clock::new(), Vec::new());
        let history = StreamHistory {
            device,
            ordinal,
            stream,
            by_thread,
            tick: 0,
            clock,
            joined: (0, 0),
            waited,
            live: true,
            settled: 0,
            left_behind: 0,
        };
        self.streams.insert(timeline, history);
    }

    pub(super) fn end_stream(&mut self, timeline: Timeline) {
        if let Some(history) = self.streams.get_mut(&timeline) {
            history.live = false;
            self.stale = self.stale.saturating_add(1);
        }
        if self.stale > STALE {
            self.tidy();
        }
    }

    pub(super) fn end_thread(&mut self, thread: ThreadId) {
        if let Some(thread) = self.threads.remove(&thread) {
            self.ended.join(&thread.clock);
        }
    }

    /// The device broke and runs nothing any more: its accesses to pageable memory need no wait.
    pub(super) fn break_device(&mut self, id: u64) {
        let RaceDetector { streams, pageable, .. } = self;
        let device = |operation: &Operation| streams.get(&operation.timeline).map(|history| history.device);
        pageable.retain(|operation, _| device(operation) != Some(id));
    }

    /// Memory of a device went back to the host.
    pub(super) fn forget(&mut self, device: u64, span: Span) {
        if let Some(device) = self.devices.get_mut(&device) {
            device.memory.forget(span);
        }
    }

    pub(super) fn forget_pinned(&mut self, span: Span) {
        self.pinned.forget(span);
    }

    pub(super) fn findings(&mut self, device: u64) -> Option<&mut Vec<String>> {
        self.devices.get_mut(&device).map(|device| &mut device.findings)
    }

    /// Forgets the accesses that the clock of all threads covers, the reads of streams that ended
    /// and were waited for by their own threads, and the ended streams without accesses.
    ///
    /// Memory that is only read, such as weights, would otherwise collect the reads of all streams
    /// there ever were: only its free is compared with them.
    fn tidy(&mut self) {
        let RaceDetector { all_threads, streams, devices, pinned, pageable, .. } = self;
        let settled = |operation: &Operation| {
            streams.get(&operation.timeline).is_some_and(|history| !history.live && operation.tick <= history.settled)
        };
        let is_open = |operation: &Operation, writes: bool| {
            !all_threads.covers(operation.timeline, operation.tick) && (writes || !settled(operation))
        };
        let memories = devices.values_mut().map(|device| &mut device.memory);
        let mut open: Vec<Timeline> = Vec::new();
        for shadow in memories.chain([pinned, pageable]) {
            shadow.retain(is_open);
            open.extend(shadow.iter().map(|(_, operation, _)| operation.timeline));
        }
        open.sort_unstable();
        self.streams.retain(|timeline, history| history.live || open.binary_search(timeline).is_ok());
        let known: Vec<Timeline> = self.streams.keys().copied().collect();
        let keep = |timeline: Timeline| known.binary_search(&timeline).is_ok();
        self.all_threads.retain(keep);
        self.ended.retain(keep);
        self.threads.values_mut().for_each(|thread| thread.clock.retain(keep));
        self.streams.values_mut().for_each(|history| history.clock.retain(keep));
        // Those that are still remembered count again, so that tidying up stays rare.
        self.stale = 0;
        self.ranges = self.pinned.len().saturating_add(self.pageable.len()).saturating_mul(2).max(RANGES);
    }
}

/// Happens-before: which clock joins which.
impl RaceDetector {
    /// The thread, with the clock of all threads joined into its own.
    fn thread(&mut self, me: ThreadId) -> &mut Thread {
        let RaceDetector { all_threads, epoch, threads, .. } = self;
        let thread = threads.entry(me).or_default();
        if thread.epoch != *epoch {
            thread.epoch = *epoch;
            thread.join(all_threads);
        }
        thread
    }

    /// Adds an operation to a stream, after all that the thread's clock covers; returns its number.
    pub(super) fn advance(&mut self, timeline: Timeline, me: ThreadId) -> u64 {
        let version = self.thread(me).version;
        let RaceDetector { threads, streams, .. } = self;
        let Some(history) = streams.get_mut(&timeline) else { return 0 };
        history.tick = history.tick.saturating_add(1);
        history.clock.advance(timeline, history.tick);
        if history.joined != (me, version) {
            history.joined = (me, version);
            if let Some(thread) = threads.get(&me) {
                history.clock.join(&thread.clock);
            }
        }
        history.tick
    }

    /// The clock that a waiter for the stream, as it is now, joins.
    pub(super) fn release(&self, timeline: Timeline) -> Option<Arc<ReleaseClock>> {
        let clock = self.streams.get(&timeline)?.clock.clone();
        Some(Arc::new(ReleaseClock { clock, returned: Mutex::new(Clock::new()) }))
    }

    /// A wait of a stream was enqueued.
    pub(super) fn stream_joins(&mut self, timeline: Timeline, release: &Arc<ReleaseClock>, me: ThreadId) {
        self.advance(timeline, me);
        let Some(history) = self.streams.get_mut(&timeline) else { return };
        history.clock.join(&release.clock);
        if history.by_thread && history.waited.last().is_none_or(|last| last.as_ptr() != Arc::as_ptr(release)) {
            if history.waited.len() >= WAITED {
                history.waited.retain(|record| record.strong_count() > 0);
                history.waited.sort_unstable_by_key(Weak::as_ptr);
                history.waited.dedup_by_key(|record| record.as_ptr());
            }
            history.waited.push(Arc::downgrade(release));
        }
    }

    /// A thread has waited, or a query answered that the work is done. A device without `by_thread`
    /// cannot see how memory is handed from thread to thread: a wait for its streams counts for
    /// every thread.
    pub(super) fn thread_joins(&mut self, release: &ReleaseClock, me: ThreadId, by_thread: bool) {
        let returned = lock(&release.returned);
        for clock in [&release.clock, &*returned] {
            self.thread(me).join(clock);
            if !by_thread {
                self.all_threads_join(clock, |history| !history.by_thread);
            }
        }
    }

    /// A thread leaves the stream. What it has waited for on that stream passes on to the next thread
    /// that enters it, and nothing else that it knows.
    pub(super) fn stream_left(&mut self, timeline: Timeline, me: ThreadId) {
        let latest = self.thread(me).clock.latest(timeline);
        if let Some(history) = self.streams.get_mut(&timeline) {
            history.left_behind = history.left_behind.max(latest);
        }
    }

    /// A thread enters the stream.
    pub(super) fn stream_entered(&mut self, timeline: Timeline, me: ThreadId) {
        let left_behind = self.streams.get(&timeline).map_or(0, |history| history.left_behind);
        if left_behind != 0 {
            self.thread(me).advance(timeline, left_behind);
        }
    }

    /// Joins `clock` into that of all threads, for the streams that `of` selects.
    fn all_threads_join(&mut self, clock: &Clock, of: impl Fn(&StreamHistory) -> bool) {
        let streams = &self.streams;
        if self.all_threads.join_of(clock, |timeline| streams.get(&timeline).is_some_and(&of)) {
            self.epoch = self.epoch.wrapping_add(1);
        }
    }

    /// The thread of a stream takes the host memory back that it lent to it, and gives back what
    /// others share with it.
    pub(super) fn loans_end(&mut self, timeline: Timeline, me: ThreadId) -> Vec<Race> {
        self.thread(me);
        let RaceDetector { threads, ended, streams, pageable, pinned, .. } = self;
        let (Some(thread), Some(history)) = (threads.get(&me), streams.get_mut(&timeline)) else { return Vec::new() };
        history.settled = thread.clock.latest(timeline);
        let Some(history) = streams.get(&timeline) else { return Vec::new() };
        let is_own = |operation: &Operation| operation.timeline == timeline;
        let is_done = |operation: &Operation| thread.clock.covers(timeline, operation.tick);
        let open = pageable.iter().filter(|(_, operation, _)| is_own(operation) && !is_done(operation));
        let open = open.map(|(span, earlier, earlier_writes)| Conflict { earlier: *earlier, earlier_writes, span });
        let later = || Access { name: "the end of a loan", writes: true, place: None };
        let reporter = Reporter { streams, threads, ended, me };
        let races = open.map(|conflict| reporter.race(&conflict, Kind::Pageable, later(), history.device)).collect();
        // What was in flight is reported once, and what is done conflicts with nothing: the
        // memory's present owner got it from this thread.
        pageable.retain(|operation, _| !is_own(operation));
        // Pinned memory is lent as well, as a slice. What is staged is looked at when it comes
        // back.
        pinned.retain(|operation, _| !(is_own(operation) && is_done(operation)));
        for record in history.waited.iter().filter_map(Weak::upgrade) {
            let mut returned = lock(&record.returned);
            returned.join(&thread.clock);
            // A record may outlive any number of streams.
            returned.retain(|timeline| streams.contains_key(&timeline));
        }
        races
    }
}

/// Accesses.
impl RaceDetector {
    /// An operation of a stream touches memory.
    pub(super) fn operation(
        &mut self,
        timeline: Timeline,
        call: Call,
        uses: impl Iterator<Item = (Span, Kind, bool)>,
        me: ThreadId,
    ) -> Vec<Race> {
        let tick = self.advance(timeline, me);
        let unordered = matches!(call, Call::MemcpyAsync | Call::MemcpyBatchAsync);
        let operation = Operation { timeline, tick, name: call.name(), unordered };
        let mut races = Vec::new();
        let RaceDetector { streams, threads, ended, devices, pinned, pageable, .. } = self;
        let Some(history) = streams.get(&timeline) else { return races };
        for (span, kind, writes) in uses {
            let shadow = match kind {
                Kind::Device => match devices.get_mut(&history.device) {
                    Some(device) => &mut device.memory,
                    None => continue,
                },
                Kind::Pinned => &mut *pinned,
                Kind::Pageable => &mut *pageable,
            };
            if let Some(conflict) = shadow.access(span, Some(operation), writes, &history.clock) {
                let reporter = Reporter { streams, threads, ended, me };
                races.push(reporter.race(&conflict, kind, history.access(&operation, writes), history.device));
            }
        }
        if self.pinned.len().saturating_add(self.pageable.len()) > self.ranges {
            self.tidy();
        }
        races
    }

    /// An allocation was enqueued; `is_free` says whether the memory was seen to be free.
    pub(super) fn allocation(
        &mut self,
        device: u64,
        timeline: Timeline,
        span: Span,
        is_free: bool,
        me: ThreadId,
    ) -> Vec<Race> {
        if !is_free {
            let used = (span, Kind::Device, true);
            return self.operation(timeline, Call::MemAllocFromPoolAsync, core::iter::once(used), me);
        }
        // The host allocates at once, streams in their order.
        let tick = if timeline == 0 { 0 } else { self.advance(timeline, me) };
        let name = Call::MemAllocFromPoolAsync.name();
        let operation = (timeline != 0).then_some(Operation { timeline, tick, name, unordered: false });
        if let Some(device) = self.devices.get_mut(&device) {
            device.memory.reset(span, operation);
        }
        Vec::new()
    }

    /// What the calling thread has waited for, for a thread that goes on in its place.
    pub(super) fn release_of_thread(&mut self, me: ThreadId) -> Option<Arc<ReleaseClock>> {
        self.thread(me);
        let clock = self.threads.get(&me)?.clock.clone();
        Some(Arc::new(ReleaseClock { clock, returned: Mutex::new(Clock::new()) }))
    }

    /// The devices, by number.
    pub(super) fn devices(&self) -> Vec<u64> {
        self.devices.keys().copied().collect()
    }

    /// A thread touches memory of one of `kinds`; `device` is whose device memory it would be.
    pub(super) fn host_access(
        &mut self,
        kinds: &[Kind],
        device: u64,
        span: Span,
        writes: bool,
        what: &'static str,
        me: ThreadId,
    ) -> Vec<Race> {
        self.thread(me);
        let RaceDetector { streams, threads, ended, devices, pinned, pageable, .. } = self;
        let mut races = Vec::new();
        let Some(thread) = threads.get(&me) else { return races };
        for kind in kinds {
            let shadow = match kind {
                Kind::Device => devices.get_mut(&device).map(|device| &mut device.memory),
                Kind::Pinned => Some(&mut *pinned),
                Kind::Pageable => Some(&mut *pageable),
            };
            if let Some(conflict) = shadow.and_then(|shadow| shadow.access(span, None, writes, &thread.clock)) {
                let owner = streams.get(&conflict.earlier.timeline).map_or(device, |history| history.device);
                let later = Access { name: what, writes, place: None };
                races.push(Reporter { streams, threads, ended, me }.race(&conflict, *kind, later, owner));
            }
        }
        races
    }

    /// A call returns that was to read `span` before: nothing that it enqueued may still read it.
    pub(super) fn borrow_ends(&self, timeline: Timeline, span: Span, me: ThreadId) -> Option<Race> {
        let RaceDetector { streams, threads, ended, pinned, pageable, .. } = self;
        let history = streams.get(&timeline)?;
        let is_own = |operation: &Operation| operation.timeline == timeline && operation.tick == history.tick;
        let found = |shadow: &Shadow, kind| {
            let (span, earlier, earlier_writes) = shadow.within(span).find(|(_, operation, _)| is_own(operation))?;
            Some((Conflict { earlier: *earlier, earlier_writes, span }, kind))
        };
        let (conflict, kind) = found(pinned, Kind::Pinned).or_else(|| found(pageable, Kind::Pageable))?;
        let later = Access { name: "the end of a batch that read during the call", writes: true, place: None };
        Some(Reporter { streams, threads, ended, me }.race(&conflict, kind, later, history.device))
    }
}

impl StreamHistory {
    fn access(&self, operation: &Operation, writes: bool) -> Access {
        Access { name: operation.name, writes, place: Some((self.stream, self.ordinal, operation.tick)) }
    }
}

/// Makes a race of a conflict.
struct Reporter<'w> {
    streams: &'w BTreeMap<Timeline, StreamHistory>,
    threads: &'w BTreeMap<ThreadId, Thread>,
    ended: &'w Clock,
    /// The thread that made the later access.
    me: ThreadId,
}

impl Reporter<'_> {
    fn race(&self, conflict: &Conflict, kind: Kind, later: Access, device: u64) -> Race {
        let Conflict { earlier, earlier_writes, span } = *conflict;
        let others = self.threads.iter().filter(|(thread, _)| **thread != self.me).map(|(_, thread)| &thread.clock);
        let another_waited = others.chain([self.ended]).any(|clock| clock.covers(earlier.timeline, earlier.tick));
        let history = self.streams.get(&earlier.timeline);
        let owner = history.map_or(device, |history| history.device);
        let unknown = Access { name: earlier.name, writes: earlier_writes, place: None };
        let earlier = history.map_or(unknown, |history| history.access(&earlier, earlier_writes));
        Race { later, earlier, span, kind, devices: [device, owner], another_waited }
    }
}

#[cfg(test)]
impl ReleaseClock {
    /// The entries of its clocks.
    pub(crate) fn len(&self) -> usize {
        self.clock.len() + lock(&self.returned).len()
    }
}

#[cfg(test)]
impl RaceDetector {
    /// Tidies up now.
    pub(super) fn tidy_up(&mut self) {
        self.tidy();
    }

    /// What is kept of the streams of `device`, which `own` collects: streams, accesses, and
    /// entries of clocks, of the streams themselves, of thread `me` and of everybody.
    pub(super) fn kept(&self, device: u64, me: ThreadId, own: &mut std::collections::BTreeSet<Timeline>) -> [usize; 3] {
        let streams = || self.streams.iter().filter(|(_, history)| history.device == device);
        let before = own.len();
        own.extend(streams().map(|(timeline, _)| *timeline));
        assert!(own.len() - before <= 4, "streams that were not seen when they lived");
        let memories = self.devices.values().map(|device| &device.memory).chain([&self.pinned, &self.pageable]);
        let accesses = memories.flat_map(Shadow::iter).filter(|(_, operation, _)| own.contains(&operation.timeline));
        let thread = self.threads.get(&me).map(|thread| &thread.clock);
        let clocks = streams().map(|(_, history)| &history.clock).chain(thread).chain([&self.all_threads, &self.ended]);
        [streams().count(), accesses.count(), clocks.map(|clock| clock.count(own)).sum()]
    }

    pub(super) fn threads_kept(&self) -> usize {
        self.threads.len()
    }
}
