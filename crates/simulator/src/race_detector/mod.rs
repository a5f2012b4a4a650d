//! The race detector: checks at submission that conflicting accesses are ordered, and reports the
//! order that is missing.
//!
//! It works by happens-before and assumes nothing about lifetimes. Each stream, each event record
//! and each host thread has a vector clock. A submission joins the clock of the submitting thread
//! into that of the stream; a wait of a stream joins the clock of the record; a thread joins the
//! clock of what it waited for, or of what a query answered to be done. Each byte has its last
//! write and the reads since; allocation and free count as writes. Of two accesses that conflict,
//! the clock of the later one must cover the earlier one. The order at run time plays no part: a
//! race is found although the run went well. Destroying a stream orders nothing.
//!
//! What orders threads among themselves, channels and joins and locks, cannot be seen here. Safe
//! Rust orders two threads wherever both touch the same memory and one of them writes, and the
//! detector relies on that. So a wait counts for the thread that made it, and for others by way of
//! memory:
//! - a thread that touches host memory after another thread comes after that touch, and needs no
//!   clock that covers what came before it ([`Shadow`](shadow::Shadow) says which touches count for
//!   which thread);
//! - memory that a stream was lent is its owner's again when the stream's thread has waited for it
//!   at the end of the loan;
//! - a thread that waits for the record of an event comes after what the threads of streams that had
//!   waited for the same record have waited for: the record carries their clocks when those streams
//!   end;
//! - memory that the device itself saw to be free may go to any stream.
//!
//! All of this needs the host's touches, which the typed layer reports. The host's touches are not
//! seen of a device that is driven by hand or stands behind the C ABI: a wait then joins the clock
//! of every thread, for the streams of such devices. For streams of other devices it joins the
//! clock of the waiting thread alone.
//!
//! Page-locked memory belongs to the process, and one thread may drive several devices, so that
//! there is one detector for the process. Devices that are not watched take no part in it.

#![forbid(unsafe_code)]

mod clock;
mod detector;
mod hooks;
mod race;
mod shadow;
#[cfg(test)]
mod tests;
mod threads;

use core::sync::atomic::{AtomicUsize, Ordering};

#[cfg(test)]
pub(super) use self::threads::current as current_thread;
pub(super) use self::{clock::Timeline, detector::ReleaseClock};
use self::{
    detector::RaceDetector,
    race::{Kind, Race},
    shadow::Span,
    threads::ThreadId,
};
use crate::{
    call::Call,
    pinned,
    sync::{Mutex, lock},
    uses::Use,
};

/// The findings of one device that are kept.
const FINDINGS: usize = 64;

static DETECTOR: Mutex<RaceDetector> = Mutex::new(RaceDetector::new());

/// How many devices are watched.
static WATCHED: AtomicUsize = AtomicUsize::new(0);

/// Whether any device of the process is watched. If none is, this check is the detector's only
/// cost.
#[inline]
#[must_use]
pub fn is_watching() -> bool {
    WATCHED.load(Ordering::Relaxed) != 0
}

/// The host touches memory that a stream may have been using. `what` names the access.
#[cold]
pub(super) fn host_touches(touched: Use, what: &'static str) {
    let Some(span) = Span::new(touched.ptr.addr(), touched.bytes) else { return };
    let me = threads::current();
    let mut detector = lock(&DETECTOR);
    let mut races = detector.host_access(&[Kind::Pinned, Kind::Pageable], 0, span, touched.writes, what, me);
    // Device addresses of two devices differ, and differ from addresses of the host.
    for device in detector.devices() {
        races.extend(detector.host_access(&[Kind::Device], device, span, touched.writes, what, me));
    }
    drop(detector);
    report_races(&races, |_| None);
}

/// A thread that made calls has ended.
fn thread_ends(thread: ThreadId) {
    lock(&DETECTOR).end_thread(thread);
}

/// Page-locked memory begins or ends.
pub(super) fn pinned_changes(start: usize, bytes: usize, ends: bool) {
    let Some(span) = Span::new(start, bytes).filter(|_| is_watching()) else { return };
    let me = threads::current();
    let mut detector = lock(&DETECTOR);
    let name = Call::MemFreeHost.name();
    let races = if ends { detector.host_access(&[Kind::Pinned], 0, span, true, name, me) } else { Vec::new() };
    detector.forget_pinned(span);
    drop(detector);
    report_races(&races, |_| None);
}

/// Adds races, in words, to the findings of the devices that take part. `extent` gives the device
/// allocation at an address.
fn report_races(races: &[Race], extent: impl Fn(usize) -> Option<(usize, usize)>) {
    for race in races {
        let extent = match race.kind {
            Kind::Device => extent(race.span.start),
            Kind::Pinned => pinned::extent(race.span.start),
            Kind::Pageable => None,
        };
        let words = race.words(extent);
        let [one, other] = race.devices;
        let mut detector = lock(&DETECTOR);
        for id in [Some(one), Some(other).filter(|other| *other != one)].into_iter().flatten() {
            if let Some(findings) = detector.findings(id).filter(|findings| findings.len() < FINDINGS) {
                findings.push(words.clone());
            }
        }
    }
}

/// What is kept of the streams of `device`, which `streams` collects, once the race detector has
/// tidied up: streams, accesses, entries of clocks.
#[cfg(test)]
pub(super) fn kept(device: u64, streams: &mut std::collections::BTreeSet<Timeline>) -> [usize; 3] {
    let me = threads::current();
    let mut detector = lock(&DETECTOR);
    // Looked at before as well: so all streams are collected.
    detector.kept(device, me, streams);
    detector.tidy_up();
    detector.kept(device, me, streams)
}

/// How many threads are kept.
#[cfg(test)]
pub(super) fn threads_kept() -> usize {
    lock(&DETECTOR).threads_kept()
}
