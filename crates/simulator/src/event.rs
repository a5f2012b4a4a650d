//! Events: places in streams.

#![forbid(unsafe_code)]

use core::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use std::{sync::Arc, time::Instant};

use super::{progress::Progress, race_detector::ReleaseClock};

/// An event: the place in a stream where it was recorded last, if it was.
#[derive(Debug, Default)]
pub(super) struct Event {
    pub(super) recorded: Option<Recorded>,
    /// When a stream came to a record of it last, if the event takes the time.
    pub(super) time: Option<Arc<Stamp>>,
}

/// A moment of the device's clock, in nanoseconds since the clock began.
///
/// The thread of a stream writes it before it marks the record done, and who reads it has seen
/// that.
#[derive(Debug, Default)]
pub(super) struct Stamp(AtomicU64);

impl Stamp {
    /// Writes what `clock` shows.
    pub(super) fn take(&self, clock: &Clock) {
        self.0.store(clock.now(), Ordering::Release);
    }

    /// The time from `self` to `end`; zero if `end` is not later.
    pub(super) fn until(&self, end: &Stamp) -> Duration {
        let (start, end) = (self.0.load(Ordering::Acquire), end.0.load(Ordering::Acquire));
        Duration::from_nanos(end.saturating_sub(start))
    }
}

/// The clock of a device, which begins with the device.
#[derive(Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn new() -> Self {
        Clock(Instant::now())
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// A place in a stream.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    pub(super) stream: Arc<Progress>,
    pub(super) ticket: u64,
    /// The clock that a waiter joins; `None` without the race detector.
    pub(super) release: Option<Arc<ReleaseClock>>,
}

impl Recorded {
    /// Whether the stream has come that far.
    pub(super) fn is_passed(&self) -> bool {
        self.stream.has_reached(self.ticket)
    }

    pub(super) fn release(&self) -> Option<&ReleaseClock> {
        self.release.as_deref()
    }
}

#[cfg(test)]
impl Event {
    /// The entries of the clocks behind the event.
    pub(super) fn known(&self) -> usize {
        self.recorded.as_ref().and_then(Recorded::release).map_or(0, ReleaseClock::len)
    }
}
