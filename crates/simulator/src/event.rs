//! Events: places in streams.

#![forbid(unsafe_code)]

use std::sync::Arc;

use super::{progress::Progress, race_detector::ReleaseClock};

/// An event: the place in a stream where it was recorded last, if it was.
#[derive(Debug, Default)]
pub(super) struct Event {
    pub(super) recorded: Option<Recorded>,
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
