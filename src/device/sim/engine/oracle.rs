//! The oracle: checks at submission that whatever conflicts is ordered, and says in words what order is missing.
//!
//! It believes nobody about lifetimes. Each stream and each event has a vector clock; a submission learns what the host
//! knows, a wait learns what the event knew when it was recorded, and the host learns from what it waited for or was told
//! to be done. Each byte remembers its last write and the reads since; allocation and free count as writes. Of two
//! accesses that conflict, the later one must know of the earlier one. What happens at run time plays no part: a race is
//! found although it went well.
//!
//! The host counts as one, whatever the number of its threads, in the order in which their calls arrive: what orders
//! threads among themselves cannot be seen here, and safe Rust lets none of them race. Destroying a stream orders nothing.
//!
//! Page-locked memory belongs to the process, and one thread may drive several engines, so that there is one oracle for
//! the process. Engines that are not watched take no part in it.

#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicUsize, Ordering};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use super::{
    Shared,
    call::Call,
    clock::{Clock, Timeline},
    heap, lock, pinned,
    race::{Access, Kind, Race},
    shadow::{Conflict, Operation, Shadow, Span},
    slots::StreamId,
    table::Located,
};

/// The findings of one engine that are kept.
const FINDINGS: usize = 64;

/// How many streams may have ended before the clocks are tidied up.
const STALE: usize = 64;

static WORLD: Mutex<World> = Mutex::new(World::new());

/// How many engines are watched.
static WATCHED: AtomicUsize = AtomicUsize::new(0);

/// Bytes that an operation touches, as the caller addresses them.
#[derive(Clone, Copy, Debug)]
pub struct Use {
    ptr: *const u8,
    bytes: usize,
    writes: bool,
}

impl Use {
    /// `bytes` bytes at `ptr` are read.
    #[inline]
    #[must_use]
    pub const fn read(ptr: *const u8, bytes: usize) -> Use {
        Use { ptr, bytes, writes: false }
    }

    /// `bytes` bytes at `ptr` are written, and perhaps read.
    #[inline]
    #[must_use]
    pub const fn write(ptr: *const u8, bytes: usize) -> Use {
        Use { ptr, bytes, writes: true }
    }
}

/// Everything the oracle knows. Its lock is the innermost of all: nothing is locked while it is held.
#[derive(Debug)]
struct World {
    /// What the host knows to be done, and how often it learned something new.
    host: Clock,
    news: u64,
    lines: BTreeMap<Timeline, Line>,
    last_line: Timeline,
    stale: usize,
    devices: BTreeMap<u64, Device>,
    pinned: Shadow,
    pageable: Shadow,
}

/// A stream, also one that has ended: its accesses are remembered longer.
#[derive(Debug)]
struct Line {
    device: u64,
    ordinal: usize,
    stream: StreamId,
    /// The operations so far.
    tick: u64,
    clock: Clock,
    /// How much of the host's news `clock` has heard.
    heard: u64,
    live: bool,
}

#[derive(Debug, Default)]
struct Device {
    memory: Shadow,
    findings: Vec<String>,
}

/// Whether any engine of the process is watched: the only thing that is asked when none is.
#[inline]
pub(in crate::device::sim) fn is_watching() -> bool {
    WATCHED.load(Ordering::Relaxed) != 0
}

/// The host touches memory that a stream may have been using. `what` names the access.
#[cold]
pub(in crate::device::sim) fn host_touches(touched: Use, what: &'static str) {
    let Some(span) = Span::new(touched.ptr.addr(), touched.bytes) else { return };
    let races = lock(&WORLD).host_access(&[Kind::Pinned, Kind::Pageable], 0, span, touched.writes, what);
    tell(&races, |_| None);
}

/// Page-locked memory begins or ends.
pub(super) fn pinned_changes(start: usize, bytes: usize, ends: bool) {
    let Some(span) = Span::new(start, bytes).filter(|_| is_watching()) else { return };
    let mut world = lock(&WORLD);
    let name = Call::MemFreeHost.name();
    let races = if ends { world.host_access(&[Kind::Pinned], 0, span, true, name) } else { Vec::new() };
    world.pinned.forget(span);
    drop(world);
    tell(&races, |_| None);
}

/// What an engine asks of the oracle. Each method begins with the branch that is all it costs when the oracle is off.
impl Shared {
    pub(super) fn watch(&self) {
        if self.options.oracle {
            lock(&WORLD).devices.insert(self.id, Device::default());
            WATCHED.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The engine has ended, and all of its threads with it.
    pub(super) fn unwatch(&self) {
        if self.options.oracle {
            lock(&WORLD).end_device(self.id);
            WATCHED.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// A number for a stream that is about to be made.
    pub(super) fn new_timeline(&self) -> Timeline {
        if !self.options.oracle {
            return 0;
        }
        let mut world = lock(&WORLD);
        world.last_line = world.last_line.wrapping_add(1);
        world.last_line
    }

    pub(super) fn stream_begins(&self, timeline: Timeline, stream: StreamId) {
        if self.options.oracle {
            let (device, ordinal) = (self.id, self.options.ordinal);
            let line = Line { device, ordinal, stream, tick: 0, clock: Clock::new(), heard: 0, live: true };
            lock(&WORLD).lines.insert(timeline, line);
        }
    }

    pub(super) fn stream_ends(&self, timeline: Timeline) {
        if self.options.oracle {
            lock(&WORLD).end_line(timeline);
        }
    }

    /// An operation was enqueued that touches memory.
    pub(super) fn enqueued(&self, timeline: Timeline, call: Call, uses: impl Iterator<Item = Use>) {
        if self.options.oracle {
            let table = pinned::table();
            let mut cursor = 0;
            let placed = uses.filter_map(|used| {
                let span = Span::new(used.ptr.addr(), used.bytes)?;
                let kind = if heap::is_device(span.start) {
                    Kind::Device
                } else if matches!(table.locate(span.start, used.bytes, &mut cursor), Located::Inside(_)) {
                    Kind::Pinned
                } else {
                    Kind::Pageable
                };
                Some((span, kind, used.writes))
            });
            let races = lock(&WORLD).operation(timeline, call, placed);
            drop(table);
            self.tell(&races);
        }
    }

    /// An allocation was enqueued. `is_free` says whether the memory was seen to be free, and needs no order then.
    pub(super) fn allocated(&self, timeline: Timeline, start: usize, bytes: usize, is_free: bool) {
        if self.options.oracle
            && let Some(span) = Span::new(start, bytes)
        {
            let races = lock(&WORLD).allocation(self.id, timeline, span, is_free);
            self.tell(&races);
        }
    }

    /// Memory was freed at once.
    pub(super) fn freed(&self, start: usize, bytes: usize) {
        if self.options.oracle
            && let Some(span) = Span::new(start, bytes)
        {
            let races = lock(&WORLD).host_access(&[Kind::Device], self.id, span, true, Call::MemFree.name());
            self.tell(&races);
        }
    }

    /// Memory went back to the host: its addresses will be somebody else's.
    pub(super) fn vanished(&self, start: usize, bytes: usize) {
        if self.options.oracle
            && let Some(span) = Span::new(start, bytes)
            && let Some(device) = lock(&WORLD).devices.get_mut(&self.id)
        {
            device.memory.forget(span);
        }
    }

    /// The host reads memory during a call.
    pub(super) fn read_during_call(&self, reads: impl Iterator<Item = Use>) {
        if self.options.oracle {
            reads.for_each(|read| host_touches(read, "a batch, reading during the call,"));
        }
    }

    /// What whoever waits for `timeline` now will know.
    pub(super) fn knowledge(&self, timeline: Timeline) -> Option<Arc<Clock>> {
        if !self.options.oracle {
            return None;
        }
        lock(&WORLD).lines.get(&timeline).map(|line| Arc::new(line.clock.clone()))
    }

    /// A record was enqueued; answers with what whoever waits for it will know.
    pub(super) fn recorded_on(&self, timeline: Timeline) -> Option<Arc<Clock>> {
        if !self.options.oracle {
            return None;
        }
        let mut world = lock(&WORLD);
        world.advance(timeline);
        world.lines.get(&timeline).map(|line| Arc::new(line.clock.clone()))
    }

    /// A wait of a stream was enqueued.
    pub(super) fn stream_learns(&self, timeline: Timeline, knowledge: Option<&Clock>) {
        if let Some(clock) = knowledge {
            let mut world = lock(&WORLD);
            world.advance(timeline);
            if let Some(line) = world.lines.get_mut(&timeline) {
                line.clock.join(clock);
            }
        }
    }

    /// The host has waited, or was told that it need not.
    pub(super) fn host_learns(&self, knowledge: Option<&Clock>) {
        if let Some(clock) = knowledge {
            lock(&WORLD).host_learns(clock);
        }
    }

    /// The host takes the pageable memory back that it lent to a stream.
    pub(super) fn loans_end(&self, timeline: Timeline) {
        if self.options.oracle {
            let races = lock(&WORLD).loans_end(timeline);
            self.tell(&races);
        }
    }

    /// The device broke, and runs nothing any more: nobody has to wait for it with pageable memory.
    pub(super) fn broke(&self) {
        if self.options.oracle {
            let world = &mut *lock(&WORLD);
            let lines = &world.lines;
            let device = |operation: &Operation| lines.get(&operation.timeline).map(|line| line.device);
            world.pageable.retain(|operation| device(operation) != Some(self.id));
        }
    }

    /// What was found so far.
    pub(super) fn races(&self) -> Vec<String> {
        if !self.options.oracle {
            return Vec::new();
        }
        lock(&WORLD).devices.get(&self.id).map(|device| device.findings.clone()).unwrap_or_default()
    }

    fn tell(&self, races: &[Race]) {
        tell(races, |address| lock(&self.heap).extent(address));
    }
}

impl World {
    const fn new() -> Self {
        World {
            host: Clock::new(),
            news: 0,
            lines: BTreeMap::new(),
            last_line: 0,
            stale: 0,
            devices: BTreeMap::new(),
            pinned: Shadow::new(),
            pageable: Shadow::new(),
        }
    }

    /// One more operation of a stream, after all that the host knows now; answers its number.
    fn advance(&mut self, timeline: Timeline) -> u64 {
        let Some(line) = self.lines.get_mut(&timeline) else { return 0 };
        line.tick = line.tick.saturating_add(1);
        line.clock.learn(timeline, line.tick);
        if line.heard != self.news {
            line.heard = self.news;
            line.clock.join(&self.host);
        }
        line.tick
    }

    fn operation(
        &mut self,
        timeline: Timeline,
        call: Call,
        uses: impl Iterator<Item = (Span, Kind, bool)>,
    ) -> Vec<Race> {
        let tick = self.advance(timeline);
        let unordered = matches!(call, Call::MemcpyAsync | Call::MemcpyBatchAsync);
        let operation = Operation { timeline, tick, name: call.name(), unordered };
        let mut races = Vec::new();
        let World { lines, devices, pinned, pageable, .. } = self;
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
                races.push(race(lines, &conflict, kind, line.access(&operation, writes), line.device));
            }
        }
        races
    }

    fn allocation(&mut self, device: u64, timeline: Timeline, span: Span, is_free: bool) -> Vec<Race> {
        if !is_free {
            let used = (span, Kind::Device, true);
            return self.operation(timeline, Call::MemAllocFromPoolAsync, core::iter::once(used));
        }
        // The host allocates at once, streams in their order.
        let tick = if timeline == 0 { 0 } else { self.advance(timeline) };
        let name = Call::MemAllocFromPoolAsync.name();
        let operation = (timeline != 0).then_some(Operation { timeline, tick, name, unordered: false });
        if let Some(device) = self.devices.get_mut(&device) {
            device.memory.reset(span, operation);
        }
        Vec::new()
    }

    fn host_access(&mut self, kinds: &[Kind], device: u64, span: Span, writes: bool, what: &'static str) -> Vec<Race> {
        let World { host, lines, devices, pinned, pageable, .. } = self;
        let mut races = Vec::new();
        for kind in kinds {
            let shadow = match kind {
                Kind::Device => devices.get_mut(&device).map(|device| &mut device.memory),
                Kind::Pinned => Some(&mut *pinned),
                Kind::Pageable => Some(&mut *pageable),
            };
            if let Some(conflict) = shadow.and_then(|shadow| shadow.access(span, None, writes, host)) {
                let owner = lines.get(&conflict.earlier.timeline).map_or(device, |line| line.device);
                races.push(race(lines, &conflict, *kind, Access { name: what, writes, place: None }, owner));
            }
        }
        races
    }

    fn loans_end(&mut self, timeline: Timeline) -> Vec<Race> {
        let World { host, lines, pageable, .. } = self;
        let open = |operation: &Operation| operation.timeline == timeline && !host.knows(timeline, operation.tick);
        let races =
            pageable.iter().filter(|(_, operation, _)| open(operation)).map(|(span, earlier, earlier_writes)| {
                let conflict = Conflict { earlier: *earlier, earlier_writes, span };
                let owner = lines.get(&timeline).map_or(0, |line| line.device);
                let later = Access { name: "the end of a loan", writes: true, place: None };
                race(lines, &conflict, Kind::Pageable, later, owner)
            });
        let races = races.collect();
        // What was in flight is reported once, and what is done conflicts with nothing.
        pageable.retain(|operation| operation.timeline != timeline && !host.knows(operation.timeline, operation.tick));
        races
    }

    fn host_learns(&mut self, clock: &Clock) {
        if self.host.join(clock) {
            self.news = self.news.wrapping_add(1);
        }
    }

    fn end_line(&mut self, timeline: Timeline) {
        if let Some(line) = self.lines.get_mut(&timeline) {
            line.live = false;
            self.stale = self.stale.saturating_add(1);
        }
        if self.stale > STALE {
            self.tidy();
        }
    }

    fn end_device(&mut self, device: u64) {
        self.devices.remove(&device);
        let ended: Vec<Timeline> =
            self.lines.iter().filter(|(_, line)| line.device == device).map(|(timeline, _)| *timeline).collect();
        for timeline in ended {
            // The threads of the streams have ended: nothing of theirs is under way.
            if let Some(line) = self.lines.get_mut(&timeline) {
                let clock = core::mem::take(&mut line.clock);
                self.host_learns(&clock);
            }
            self.end_line(timeline);
        }
    }

    /// Forgets what the host knows to be done, and the streams that nobody remembers then.
    fn tidy(&mut self) {
        let host = &self.host;
        let is_open = |operation: &Operation| !host.knows(operation.timeline, operation.tick);
        let memories = self.devices.values_mut().map(|device| &mut device.memory);
        let mut open: Vec<Timeline> = Vec::new();
        for shadow in memories.chain([&mut self.pinned, &mut self.pageable]) {
            shadow.retain(is_open);
            open.extend(shadow.iter().map(|(_, operation, _)| operation.timeline));
        }
        open.sort_unstable();
        self.lines.retain(|timeline, line| line.live || open.binary_search(timeline).is_ok());
        let known: Vec<Timeline> = self.lines.keys().copied().collect();
        let keep = |timeline: Timeline| known.binary_search(&timeline).is_ok();
        self.host.retain(keep);
        self.lines.values_mut().for_each(|line| line.clock.retain(keep));
        // Those that are still remembered count again, so that tidying up stays rare.
        self.stale = 0;
    }
}

impl Line {
    fn access(&self, operation: &Operation, writes: bool) -> Access {
        Access { name: operation.name, writes, place: Some((self.stream, self.ordinal, operation.tick)) }
    }
}

fn race(lines: &BTreeMap<Timeline, Line>, conflict: &Conflict, kind: Kind, later: Access, device: u64) -> Race {
    let Conflict { earlier, earlier_writes, span } = *conflict;
    let line = lines.get(&earlier.timeline);
    let owner = line.map_or(device, |line| line.device);
    let unknown = Access { name: earlier.name, writes: earlier_writes, place: None };
    let earlier = line.map_or(unknown, |line| line.access(&earlier, earlier_writes));
    Race { later, earlier, span, kind, devices: [device, owner] }
}

/// Puts races into words, and with the findings of the engines that take part. `extent` knows the device allocations.
fn tell(races: &[Race], extent: impl Fn(usize) -> Option<(usize, usize)>) {
    for race in races {
        let extent = match race.kind {
            Kind::Device => extent(race.span.start),
            Kind::Pinned => pinned::extent(race.span.start),
            Kind::Pageable => None,
        };
        let words = race.words(extent);
        let [one, other] = race.devices;
        let mut world = lock(&WORLD);
        for id in [Some(one), Some(other).filter(|other| *other != one)].into_iter().flatten() {
            let findings = world.devices.get_mut(&id).map(|device| &mut device.findings);
            if let Some(findings) = findings.filter(|findings| findings.len() < FINDINGS) {
                findings.push(words.clone());
            }
        }
    }
}
