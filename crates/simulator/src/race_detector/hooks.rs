//! Where a device calls the race detector.

#![forbid(unsafe_code)]

use core::sync::atomic::Ordering;
use std::sync::Arc;

use super::{
    DETECTOR, WATCHED,
    clock::Timeline,
    detector::{Place, ReleaseClock},
    host_touches,
    race::{Kind, Race},
    report_races,
    shadow::Span,
    threads,
};
use crate::{Shared, call::Call, pinned, slots::StreamId, sync::lock, table::Located, uses::Use, window};

/// What a device reports. Each method begins with a branch, which is its only cost when the race
/// detector is off.
impl Shared {
    pub(crate) fn watch(&self) {
        if self.options.race_detector {
            lock(&DETECTOR).begin_device(self.id);
            WATCHED.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The device has ended, and all of its threads with it.
    pub(crate) fn unwatch(&self) {
        if self.options.race_detector {
            lock(&DETECTOR).end_device(self.id);
            WATCHED.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// A number for a stream that is about to be made.
    pub(crate) fn new_timeline(&self) -> Timeline {
        if !self.options.race_detector {
            return 0;
        }
        lock(&DETECTOR).new_timeline()
    }

    pub(crate) fn stream_begins(&self, timeline: Timeline, stream: StreamId) {
        if self.options.race_detector {
            let place = Place { device: self.id, ordinal: self.options.ordinal, stream };
            lock(&DETECTOR).begin_stream(timeline, place, self.options.by_thread);
        }
    }

    pub(crate) fn stream_ends(&self, timeline: Timeline) {
        if self.options.race_detector {
            lock(&DETECTOR).end_stream(timeline);
        }
    }

    /// An operation was enqueued that touches memory.
    pub(crate) fn enqueued(&self, timeline: Timeline, call: Call, uses: impl Iterator<Item = Use>) {
        if self.options.race_detector {
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
            let races = lock(&DETECTOR).operation(timeline, call, placed, threads::current());
            drop(table);
            self.report_races(&races);
        }
    }

    /// An allocation was enqueued. `is_free` says whether the memory was seen to be free, and needs
    /// no order then.
    pub(crate) fn allocated(&self, timeline: Timeline, start: usize, bytes: usize, is_free: bool) {
        if self.options.race_detector
            && let Some(span) = Span::new(start, bytes)
        {
            let races = lock(&DETECTOR).allocation(self.id, timeline, span, is_free, threads::current());
            self.report_races(&races);
        }
    }

    /// Memory was freed at once.
    pub(crate) fn freed(&self, start: usize, bytes: usize) {
        if self.options.race_detector
            && let Some(span) = Span::new(start, bytes)
        {
            let (name, me) = (Call::MemFree.name(), threads::current());
            let races = lock(&DETECTOR).host_access(&[Kind::Device], self.id, span, true, name, me);
            self.report_races(&races);
        }
    }

    /// Memory went back to the host: its addresses will be somebody else's.
    pub(crate) fn vanished(&self, start: usize, bytes: usize) {
        if self.options.race_detector
            && let Some(span) = Span::new(start, bytes)
        {
            lock(&DETECTOR).forget(self.id, span);
        }
    }

    /// An operation of `timeline` was enqueued whose sources `reads` were to be read during the
    /// call.
    pub(crate) fn borrows_end(&self, timeline: Timeline, reads: impl Iterator<Item = Use>) {
        if self.options.race_detector {
            let spans = reads.filter_map(|read| Span::new(read.ptr.addr(), read.bytes));
            let me = threads::current();
            let races: Vec<Race> = spans.filter_map(|span| lock(&DETECTOR).borrow_ends(timeline, span, me)).collect();
            self.report_races(&races);
        }
    }

    /// The host reads memory during a call.
    pub(crate) fn read_during_call(&self, reads: impl Iterator<Item = Use>) {
        if self.options.race_detector {
            reads.for_each(|read| host_touches(read, "a batch, reading during the call,"));
        }
    }

    /// The clock that a waiter for `timeline`, as it is now, joins.
    pub(crate) fn release(&self, timeline: Timeline) -> Option<Arc<ReleaseClock>> {
        if !self.options.race_detector {
            return None;
        }
        lock(&DETECTOR).release(timeline)
    }

    /// A record was enqueued; returns the clock that its waiters join.
    pub(crate) fn recorded_on(&self, timeline: Timeline) -> Option<Arc<ReleaseClock>> {
        if !self.options.race_detector {
            return None;
        }
        let mut detector = lock(&DETECTOR);
        detector.advance(timeline, threads::current());
        detector.release(timeline)
    }

    /// A wait of a stream was enqueued.
    pub(crate) fn stream_joins(&self, timeline: Timeline, release: Option<&Arc<ReleaseClock>>) {
        if let Some(release) = release {
            lock(&DETECTOR).stream_joins(timeline, release, threads::current());
        }
    }

    /// The calling thread has waited, or a query answered that the work is done.
    pub(crate) fn thread_joins(&self, release: Option<&ReleaseClock>) {
        if let Some(release) = release {
            lock(&DETECTOR).thread_joins(release, threads::current(), self.options.by_thread);
        }
    }

    /// What the calling thread has waited for, for a thread that goes on in its place.
    pub(crate) fn released_by_thread(&self) -> Option<Arc<ReleaseClock>> {
        if !self.options.race_detector {
            return None;
        }
        lock(&DETECTOR).release_of_thread(threads::current())
    }

    /// The calling thread takes the host memory back that it lent to a stream.
    pub(crate) fn loans_end(&self, timeline: Timeline) {
        if self.options.race_detector {
            let races = lock(&DETECTOR).loans_end(timeline, threads::current());
            self.report_races(&races);
        }
    }

    /// The calling thread leaves a stream to the thread that enters it next.
    pub(crate) fn stream_left(&self, timeline: Timeline) {
        if self.options.race_detector {
            lock(&DETECTOR).stream_left(timeline, threads::current());
        }
    }

    /// The calling thread enters a stream that another thread may have left.
    pub(crate) fn stream_entered(&self, timeline: Timeline) {
        if self.options.race_detector {
            lock(&DETECTOR).stream_entered(timeline, threads::current());
        }
    }

    /// The device broke and runs nothing any more: its accesses to pageable memory need no wait.
    pub(crate) fn broke(&self) {
        if self.options.race_detector {
            lock(&DETECTOR).break_device(self.id);
        }
    }

    /// What was found so far.
    pub(crate) fn races(&self) -> Vec<String> {
        if !self.options.race_detector {
            return Vec::new();
        }
        lock(&DETECTOR).findings(self.id).cloned().unwrap_or_default()
    }

    fn report_races(&self, races: &[Race]) {
        report_races(races, |address| lock(&self.heap).extent(address));
    }
}
