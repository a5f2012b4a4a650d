//! The oracle: checks at submission that whatever conflicts is ordered, and says in words what order is missing.
//!
//! It believes nobody about lifetimes. Each stream, each event and each host thread has a vector clock; a submission learns
//! what the thread knows, a wait learns what the event knew when it was recorded, and a thread learns from what it waited
//! for or was told to be done. Each byte remembers its last write and the reads since; allocation and free count as writes.
//! Of two accesses that conflict, the later one must know of the earlier one. What happens at run time plays no part: a
//! race is found although it went well. Destroying a stream orders nothing.
//!
//! What orders threads among themselves, channels and joins and locks, cannot be seen here; that they are ordered can be
//! relied on where safe Rust asks for it, which is wherever two of them touch the same memory and one of them writes. So a
//! wait counts for the thread that made it, and for others by way of memory:
//! - whoever touches host memory after a thread has touched it comes after that touch, and need not know of what came
//!   before it ([`Shadow`](super::shadow::Shadow) says which touches count for whom);
//! - what a stream was lent is its owner's again when the stream's thread has waited for it at the end of the loan;
//! - what streams of several threads share, frozen, is given up by whoever waits for its event, after all of those threads
//!   have waited for their streams: the event carries what they knew;
//! - memory that the device itself saw to be free is anybody's.
//!
//! All of this needs to see the host's touches, which the typed layer tells. An engine that is driven by hand, or stands
//! behind the C ABI, does not see them: by its waits every thread learns of the streams of such engines. What the waiting
//! thread knew of others stays with it.
//!
//! Page-locked memory belongs to the process, and one thread may drive several engines, so that there is one oracle for
//! the process. Engines that are not watched take no part in it.

#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use super::{
    Shared,
    call::Call,
    clock::Timeline,
    lock, pinned,
    race::{Kind, Race},
    shadow::Span,
    slots::StreamId,
    table::Located,
    threads::{self, ThreadId},
    window,
    world::{Knowledge, Place, World},
};
use crate::sync::Mutex;

/// The findings of one engine that are kept.
const FINDINGS: usize = 64;

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

/// Whether any engine of the process is watched: the only thing that is asked when none is.
#[inline]
pub(in crate::device::sim) fn is_watching() -> bool {
    WATCHED.load(Ordering::Relaxed) != 0
}

/// The host touches memory that a stream may have been using. `what` names the access.
#[cold]
pub(in crate::device::sim) fn host_touches(touched: Use, what: &'static str) {
    let Some(span) = Span::new(touched.ptr.addr(), touched.bytes) else { return };
    let me = threads::current();
    let races = lock(&WORLD).host_access(&[Kind::Pinned, Kind::Pageable], 0, span, touched.writes, what, me);
    tell(&races, |_| None);
}

/// A thread that made calls has ended.
pub(super) fn thread_ends(thread: ThreadId) {
    lock(&WORLD).end_thread(thread);
}

/// Page-locked memory begins or ends.
pub(super) fn pinned_changes(start: usize, bytes: usize, ends: bool) {
    let Some(span) = Span::new(start, bytes).filter(|_| is_watching()) else { return };
    let me = threads::current();
    let mut world = lock(&WORLD);
    let name = Call::MemFreeHost.name();
    let races = if ends { world.host_access(&[Kind::Pinned], 0, span, true, name, me) } else { Vec::new() };
    world.forget_pinned(span);
    drop(world);
    tell(&races, |_| None);
}

/// What an engine asks of the oracle. Each method begins with the branch that is all it costs when the oracle is off.
impl Shared {
    pub(super) fn watch(&self) {
        if self.options.oracle {
            lock(&WORLD).begin_device(self.id);
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
        lock(&WORLD).new_timeline()
    }

    pub(super) fn stream_begins(&self, timeline: Timeline, stream: StreamId) {
        if self.options.oracle {
            let place = Place { device: self.id, ordinal: self.options.ordinal, stream };
            lock(&WORLD).begin_line(timeline, place, self.options.by_thread);
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
                let kind = if window::is_device(span.start) {
                    Kind::Device
                } else if matches!(table.locate(span.start, used.bytes, &mut cursor), Located::Inside(_)) {
                    Kind::Pinned
                } else {
                    Kind::Pageable
                };
                Some((span, kind, used.writes))
            });
            let races = lock(&WORLD).operation(timeline, call, placed, threads::current());
            drop(table);
            self.tell(&races);
        }
    }

    /// An allocation was enqueued. `is_free` says whether the memory was seen to be free, and needs no order then.
    pub(super) fn allocated(&self, timeline: Timeline, start: usize, bytes: usize, is_free: bool) {
        if self.options.oracle
            && let Some(span) = Span::new(start, bytes)
        {
            let races = lock(&WORLD).allocation(self.id, timeline, span, is_free, threads::current());
            self.tell(&races);
        }
    }

    /// Memory was freed at once.
    pub(super) fn freed(&self, start: usize, bytes: usize) {
        if self.options.oracle
            && let Some(span) = Span::new(start, bytes)
        {
            let (name, me) = (Call::MemFree.name(), threads::current());
            let races = lock(&WORLD).host_access(&[Kind::Device], self.id, span, true, name, me);
            self.tell(&races);
        }
    }

    /// Memory went back to the host: its addresses will be somebody else's.
    pub(super) fn vanished(&self, start: usize, bytes: usize) {
        if self.options.oracle
            && let Some(span) = Span::new(start, bytes)
        {
            lock(&WORLD).forget(self.id, span);
        }
    }

    /// An operation of `timeline` was enqueued whose sources `reads` were to be read during the call.
    pub(super) fn borrows_end(&self, timeline: Timeline, reads: impl Iterator<Item = Use>) {
        if self.options.oracle {
            let spans = reads.filter_map(|read| Span::new(read.ptr.addr(), read.bytes));
            let me = threads::current();
            let races: Vec<Race> = spans.filter_map(|span| lock(&WORLD).borrow_ends(timeline, span, me)).collect();
            self.tell(&races);
        }
    }

    /// The host reads memory during a call.
    pub(super) fn read_during_call(&self, reads: impl Iterator<Item = Use>) {
        if self.options.oracle {
            reads.for_each(|read| host_touches(read, "a batch, reading during the call,"));
        }
    }

    /// What whoever waits for `timeline` now will know.
    pub(super) fn knowledge(&self, timeline: Timeline) -> Option<Arc<Knowledge>> {
        if !self.options.oracle {
            return None;
        }
        lock(&WORLD).knowledge(timeline)
    }

    /// A record was enqueued; answers with what whoever waits for it will know.
    pub(super) fn recorded_on(&self, timeline: Timeline) -> Option<Arc<Knowledge>> {
        if !self.options.oracle {
            return None;
        }
        let mut world = lock(&WORLD);
        world.advance(timeline, threads::current());
        world.knowledge(timeline)
    }

    /// A wait of a stream was enqueued.
    pub(super) fn stream_learns(&self, timeline: Timeline, knowledge: Option<&Arc<Knowledge>>) {
        if let Some(knowledge) = knowledge {
            lock(&WORLD).stream_learns(timeline, knowledge, threads::current());
        }
    }

    /// The calling thread has waited, or was told that it need not.
    pub(super) fn host_learns(&self, knowledge: Option<&Knowledge>) {
        if let Some(knowledge) = knowledge {
            lock(&WORLD).host_learns(knowledge, threads::current(), self.options.by_thread);
        }
    }

    /// The calling thread takes the host memory back that it lent to a stream.
    pub(super) fn loans_end(&self, timeline: Timeline) {
        if self.options.oracle {
            let races = lock(&WORLD).loans_end(timeline, threads::current());
            self.tell(&races);
        }
    }

    /// The device broke, and runs nothing any more: nobody has to wait for it with pageable memory.
    pub(super) fn broke(&self) {
        if self.options.oracle {
            lock(&WORLD).break_device(self.id);
        }
    }

    /// What was found so far.
    pub(super) fn races(&self) -> Vec<String> {
        if !self.options.oracle {
            return Vec::new();
        }
        lock(&WORLD).findings(self.id).cloned().unwrap_or_default()
    }

    fn tell(&self, races: &[Race]) {
        tell(races, |address| lock(&self.heap).extent(address));
    }
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
            if let Some(findings) = world.findings(id).filter(|findings| findings.len() < FINDINGS) {
                findings.push(words.clone());
            }
        }
    }
}

/// What is kept of the streams of `device`, which `lines` collects, once the oracle has tidied up: streams, accesses,
/// entries of clocks.
#[cfg(test)]
pub(super) fn kept(device: u64, lines: &mut std::collections::BTreeSet<Timeline>) -> [usize; 3] {
    let me = threads::current();
    let mut world = lock(&WORLD);
    // Looked at before as well: so all streams are collected.
    world.kept(device, me, lines);
    world.tidy_up();
    world.kept(device, me, lines)
}

/// How many threads are kept.
#[cfg(test)]
pub(super) fn threads_kept() -> usize {
    lock(&WORLD).threads_kept()
}
