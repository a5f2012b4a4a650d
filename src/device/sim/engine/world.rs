//! Everything the oracle knows, and what it makes of an access.

#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use super::{
    call::Call,
    clock::{Clock, Timeline},
    lock,
    race::{Access, Kind, Race},
    shadow::{Conflict, Operation, Shadow, Span},
    slots::StreamId,
    threads::{Thread, ThreadId},
};
use crate::sync::Mutex;

/// How many streams may have ended before the clocks are tidied up.
const STALE: usize = 64;

/// How many ranges of host memory are remembered before the clocks are tidied up; later twice as many as were left.
const RANGES: usize = 4096;

/// How many records a stream may have waited for before those that were recorded over are forgotten.
const WAITED: usize = 64;

/// Its lock is the innermost of all but that of [`Knowledge`]: nothing else is locked while it is held.
#[derive(Debug)]
pub(super) struct World {
    /// What every thread of the host knows to be done, and how often that was news.
    everyone: Clock,
    news: u64,
    /// What single threads know besides.
    threads: BTreeMap<ThreadId, Thread>,
    /// What threads knew that have ended. Nobody knows it by that; it is told with a race.
    ended: Clock,
    lines: BTreeMap<Timeline, Line>,
    last_line: Timeline,
    stale: usize,
    /// How many ranges of host memory may be remembered before the clocks are tidied up again.
    ranges: usize,
    devices: BTreeMap<u64, Device>,
    pinned: Shadow,
    pageable: Shadow,
}

/// What a record of an event, or the end of a stream as it is now, stands for.
#[derive(Debug)]
pub(super) struct Knowledge {
    /// What whoever waits for it knows.
    clock: Clock,
    /// What threads knew when they gave back what their streams had got by waiting for this record. The memory behind it is
    /// given up after that, by whoever waits for the record last.
    returned: Mutex<Clock>,
}

/// A stream, also one that has ended: its accesses are remembered longer.
#[derive(Debug)]
struct Line {
    device: u64,
    ordinal: usize,
    stream: StreamId,
    /// Whether a wait of a thread counts for that thread only.
    by_thread: bool,
    /// The operations so far.
    tick: u64,
    clock: Clock,
    /// The thread that `clock` has heard of last, and how much of it.
    heard: (ThreadId, u64),
    /// The records that the stream has waited for, as far as they were not recorded over.
    waited: Vec<Weak<Knowledge>>,
    live: bool,
    /// The operations that the stream's thread has waited for at the end of a loan.
    settled: u64,
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
    pub(super) ordinal: usize,
    pub(super) stream: StreamId,
}

/// Engines, streams, and what the oracle found.
impl World {
    pub(super) const fn new() -> Self {
        World {
            everyone: Clock::new(),
            news: 0,
            threads: BTreeMap::new(),
            ended: Clock::new(),
            lines: BTreeMap::new(),
            last_line: 0,
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
        let ended: Vec<Timeline> =
            self.lines.iter().filter(|(_, line)| line.device == device).map(|(timeline, _)| *timeline).collect();
        for timeline in ended {
            // The threads of the streams have ended: nothing of theirs is under way.
            if let Some(line) = self.lines.get_mut(&timeline) {
                let clock = core::mem::take(&mut line.clock);
                self.everyone_learns(&clock, |line| line.device == device);
            }
            self.end_line(timeline);
        }
    }

    pub(super) fn new_timeline(&mut self) -> Timeline {
        self.last_line = self.last_line.wrapping_add(1);
        self.last_line
    }

    pub(super) fn begin_line(&mut self, timeline: Timeline, place: Place, by_thread: bool) {
        let Place { device, ordinal, stream } = place;
        let (clock, waited) = (Clock::new(), Vec::new());
        let line =
            Line { device, ordinal, stream, by_thread, tick: 0, clock, heard: (0, 0), waited, live: true, settled: 0 };
        self.lines.insert(timeline, line);
    }

    pub(super) fn end_line(&mut self, timeline: Timeline) {
        if let Some(line) = self.lines.get_mut(&timeline) {
            line.live = false;
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

    /// The device broke, and runs nothing any more: nobody has to wait for it with pageable memory.
    pub(super) fn break_device(&mut self, id: u64) {
        let World { lines, pageable, .. } = self;
        let device = |operation: &Operation| lines.get(&operation.timeline).map(|line| line.device);
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

    /// Forgets what every thread knows to be done, the reads of streams that ended and were waited for by their own threads,
    /// and the streams that nobody remembers then.
    ///
    /// Frozen memory would otherwise collect the reads of all streams there ever were: it is written by nobody, and nobody
    /// but who frees it hears of them.
    fn tidy(&mut self) {
        let World { everyone, lines, devices, pinned, pageable, .. } = self;
        let settled = |operation: &Operation| {
            lines.get(&operation.timeline).is_some_and(|line| !line.live && operation.tick <= line.settled)
        };
        let is_open = |operation: &Operation, writes: bool| {
            !everyone.knows(operation.timeline, operation.tick) && (writes || !settled(operation))
        };
        let memories = devices.values_mut().map(|device| &mut device.memory);
        let mut open: Vec<Timeline> = Vec::new();
        for shadow in memories.chain([pinned, pageable]) {
            shadow.retain(is_open);
            open.extend(shadow.iter().map(|(_, operation, _)| operation.timeline));
        }
        open.sort_unstable();
        self.lines.retain(|timeline, line| line.live || open.binary_search(timeline).is_ok());
        let known: Vec<Timeline> = self.lines.keys().copied().collect();
        let keep = |timeline: Timeline| known.binary_search(&timeline).is_ok();
        self.everyone.retain(keep);
        self.ended.retain(keep);
        self.threads.values_mut().for_each(|thread| thread.clock.retain(keep));
        self.lines.values_mut().for_each(|line| line.clock.retain(keep));
        // Those that are still remembered count again, so that tidying up stays rare.
        self.stale = 0;
        self.ranges = self.pinned.len().saturating_add(self.pageable.len()).saturating_mul(2).max(RANGES);
    }
}

/// Who learns what.
impl World {
    /// The thread, up to date with what every thread knows.
    fn thread(&mut self, me: ThreadId) -> &mut Thread {
        let World { everyone, news, threads, .. } = self;
        let thread = threads.entry(me).or_default();
        if thread.heard != *news {
            thread.heard = *news;
            thread.learn(everyone);
        }
        thread
    }

    /// One more operation of a stream, after all that the thread knows now; answers its number.
    pub(super) fn advance(&mut self, timeline: Timeline, me: ThreadId) -> u64 {
        let version = self.thread(me).version;
        let World { threads, lines, .. } = self;
        let Some(line) = lines.get_mut(&timeline) else { return 0 };
        line.tick = line.tick.saturating_add(1);
        line.clock.learn(timeline, line.tick);
        if line.heard != (me, version) {
            line.heard = (me, version);
            if let Some(thread) = threads.get(&me) {
                line.clock.join(&thread.clock);
            }
        }
        line.tick
    }

    /// What whoever waits for the stream now will know.
    pub(super) fn knowledge(&self, timeline: Timeline) -> Option<Arc<Knowledge>> {
        let clock = self.lines.get(&timeline)?.clock.clone();
        Some(Arc::new(Knowledge { clock, returned: Mutex::new(Clock::new()) }))
    }

    /// A wait of a stream was enqueued.
    pub(super) fn stream_learns(&mut self, timeline: Timeline, knowledge: &Arc<Knowledge>, me: ThreadId) {
        self.advance(timeline, me);
        let Some(line) = self.lines.get_mut(&timeline) else { return };
        line.clock.join(&knowledge.clock);
        if line.by_thread && line.waited.last().is_none_or(|last| last.as_ptr() != Arc::as_ptr(knowledge)) {
            if line.waited.len() >= WAITED {
                line.waited.retain(|record| record.strong_count() > 0);
                line.waited.sort_unstable_by_key(Weak::as_ptr);
                line.waited.dedup_by_key(|record| record.as_ptr());
            }
            line.waited.push(Arc::downgrade(knowledge));
        }
    }

    /// A thread has waited, or was told that it need not. By an engine that cannot see how memory is handed from thread to
    /// thread, every thread has, for the streams of such engines: of others each thread waits for itself.
    pub(super) fn host_learns(&mut self, knowledge: &Knowledge, me: ThreadId, by_thread: bool) {
        let returned = lock(&knowledge.returned);
        for clock in [&knowledge.clock, &*returned] {
            self.thread(me).learn(clock);
            if !by_thread {
                self.everyone_learns(clock, |line| !line.by_thread);
            }
        }
    }

    /// Every thread learns what `clock` knows of the streams that `of` names.
    fn everyone_learns(&mut self, clock: &Clock, of: impl Fn(&Line) -> bool) {
        let lines = &self.lines;
        if self.everyone.join_of(clock, |timeline| lines.get(&timeline).is_some_and(&of)) {
            self.news = self.news.wrapping_add(1);
        }
    }

    /// The thread of a stream takes the host memory back that it lent to it, and gives back what others share with it.
    pub(super) fn loans_end(&mut self, timeline: Timeline, me: ThreadId) -> Vec<Race> {
        self.thread(me);
        let World { threads, ended, lines, pageable, pinned, .. } = self;
        let (Some(thread), Some(line)) = (threads.get(&me), lines.get_mut(&timeline)) else { return Vec::new() };
        line.settled = thread.clock.known(timeline);
        let Some(line) = lines.get(&timeline) else { return Vec::new() };
        let is_own = |operation: &Operation| operation.timeline == timeline;
        let is_done = |operation: &Operation| thread.clock.knows(timeline, operation.tick);
        let open = pageable.iter().filter(|(_, operation, _)| is_own(operation) && !is_done(operation));
        let open = open.map(|(span, earlier, earlier_writes)| Conflict { earlier: *earlier, earlier_writes, span });
        let later = || Access { name: "the end of a loan", writes: true, place: None };
        let tell = Teller { lines, threads, ended, me };
        let races = open.map(|conflict| tell.race(&conflict, Kind::Pageable, later(), line.device)).collect();
        // What was in flight is reported once, and what is done conflicts with nothing: whoever has the memory now got it
        // from this thread.
        pageable.retain(|operation, _| !is_own(operation));
        // Pinned memory is lent as well, as a slice. What is staged is looked at when it comes back.
        pinned.retain(|operation, _| !(is_own(operation) && is_done(operation)));
        for record in line.waited.iter().filter_map(Weak::upgrade) {
            let mut returned = lock(&record.returned);
            returned.join(&thread.clock);
            // A record may outlive any number of streams.
            returned.retain(|timeline| lines.contains_key(&timeline));
        }
        races
    }
}

/// Accesses.
impl World {
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
        let World { lines, threads, ended, devices, pinned, pageable, .. } = self;
        let Some(line) = lines.get(&timeline) else { return races };
        for (span, kind, writes) in uses {
            let shadow = match kind {
                Kind::Device => match devices.get_mut(&line.device) {
                    Some(device) => &mut device.memory,
                    None => continue,
                },
                Kind::Pinned => &mut *pinned,
                Kind::Pageable => &mut *pageable,
            };
            if let Some(conflict) = shadow.access(span, Some(operation), writes, &line.clock) {
                let tell = Teller { lines, threads, ended, me };
                races.push(tell.race(&conflict, kind, line.access(&operation, writes), line.device));
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
        let World { lines, threads, ended, devices, pinned, pageable, .. } = self;
        let mut races = Vec::new();
        let Some(thread) = threads.get(&me) else { return races };
        for kind in kinds {
            let shadow = match kind {
                Kind::Device => devices.get_mut(&device).map(|device| &mut device.memory),
                Kind::Pinned => Some(&mut *pinned),
                Kind::Pageable => Some(&mut *pageable),
            };
            if let Some(conflict) = shadow.and_then(|shadow| shadow.access(span, None, writes, &thread.clock)) {
                let owner = lines.get(&conflict.earlier.timeline).map_or(device, |line| line.device);
                let later = Access { name: what, writes, place: None };
                races.push(Teller { lines, threads, ended, me }.race(&conflict, *kind, later, owner));
            }
        }
        races
    }

    /// A call returns that was to read `span` before: nothing that it enqueued may still read it.
    pub(super) fn borrow_ends(&self, timeline: Timeline, span: Span, me: ThreadId) -> Option<Race> {
        let World { lines, threads, ended, pinned, pageable, .. } = self;
        let line = lines.get(&timeline)?;
        let is_own = |operation: &Operation| operation.timeline == timeline && operation.tick == line.tick;
        let found = |shadow: &Shadow, kind| {
            let (span, earlier, earlier_writes) = shadow.within(span).find(|(_, operation, _)| is_own(operation))?;
            Some((Conflict { earlier: *earlier, earlier_writes, span }, kind))
        };
        let (conflict, kind) = found(pinned, Kind::Pinned).or_else(|| found(pageable, Kind::Pageable))?;
        let later = Access { name: "the end of a batch that read during the call", writes: true, place: None };
        Some(Teller { lines, threads, ended, me }.race(&conflict, kind, later, line.device))
    }
}

impl Line {
    fn access(&self, operation: &Operation, writes: bool) -> Access {
        Access { name: operation.name, writes, place: Some((self.stream, self.ordinal, operation.tick)) }
    }
}

/// Makes a race of a conflict.
struct Teller<'w> {
    lines: &'w BTreeMap<Timeline, Line>,
    threads: &'w BTreeMap<ThreadId, Thread>,
    ended: &'w Clock,
    /// The thread that made the later access.
    me: ThreadId,
}

impl Teller<'_> {
    fn race(&self, conflict: &Conflict, kind: Kind, later: Access, device: u64) -> Race {
        let Conflict { earlier, earlier_writes, span } = *conflict;
        let others = self.threads.iter().filter(|(thread, _)| **thread != self.me).map(|(_, thread)| &thread.clock);
        let another_waited = others.chain([self.ended]).any(|clock| clock.knows(earlier.timeline, earlier.tick));
        let line = self.lines.get(&earlier.timeline);
        let owner = line.map_or(device, |line| line.device);
        let unknown = Access { name: earlier.name, writes: earlier_writes, place: None };
        let earlier = line.map_or(unknown, |line| line.access(&earlier, earlier_writes));
        Race { later, earlier, span, kind, devices: [device, owner], another_waited }
    }
}

#[cfg(test)]
impl Knowledge {
    /// The entries of its clocks.
    pub(super) fn len(&self) -> usize {
        self.clock.len() + lock(&self.returned).len()
    }
}

#[cfg(test)]
impl World {
    /// Tidies up now.
    pub(super) fn tidy_up(&mut self) {
        self.tidy();
    }

    /// What is kept of the streams of `device`, which `own` collects: streams, accesses, and entries of clocks, of the streams
    /// themselves, of thread `me` and of everybody.
    pub(super) fn kept(&self, device: u64, me: ThreadId, own: &mut std::collections::BTreeSet<Timeline>) -> [usize; 3] {
        let lines = || self.lines.iter().filter(|(_, line)| line.device == device);
        let before = own.len();
        own.extend(lines().map(|(timeline, _)| *timeline));
        assert!(own.len() - before <= 4, "streams that were not seen when they lived");
        let memories = self.devices.values().map(|device| &device.memory).chain([&self.pinned, &self.pageable]);
        let accesses = memories.flat_map(Shadow::iter).filter(|(_, operation, _)| own.contains(&operation.timeline));
        let thread = self.threads.get(&me).map(|thread| &thread.clock);
        let clocks = lines().map(|(_, line)| &line.clock).chain(thread).chain([&self.everyone, &self.ended]);
        [lines().count(), accesses.count(), clocks.map(|clock| clock.count(own)).sum()]
    }

    pub(super) fn threads_kept(&self) -> usize {
        self.threads.len()
    }
}
