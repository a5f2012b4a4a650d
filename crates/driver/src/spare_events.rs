//! Events that no stream of a device needs at the moment.

#![forbid(unsafe_code)]

use core::fmt;

use crate::sync::{Mutex, lock};

/// The spare events of one device, shared by its streams and by memory that outlives them.
///
/// Memory that is detached on one stream and attached on another carries an event along. What a
/// stream has too many of lies here, for whichever stream needs events next. A wait that was
/// enqueued stands for the record as it was at the call (E2, E3), so that recording an event again
/// changes no wait.
///
/// While no stream is open there are none.
pub struct SpareEvents<E> {
    list: Mutex<List<E>>,
}

struct List<E> {
    /// The streams that are open.
    streams: usize,
    /// Invariants: at most [`MOST`]; none if `streams` is 0.
    events: Vec<E>,
}

/// The events that are kept.
const MOST: usize = 1024;

impl<E> SpareEvents<E> {
    /// No events, and no open stream.
    #[inline]
    #[must_use]
    pub const fn new() -> Self {
        SpareEvents { list: Mutex::new(List { streams: 0, events: Vec::new() }) }
    }

    /// Notes that a stream opens.
    #[inline]
    pub fn stream_opens(&self) {
        let mut list = lock(&self.list);
        list.streams = list.streams.saturating_add(1);
    }

    /// Notes that a stream ends; of the last one the answer is all events, which the caller
    /// destroys.
    #[inline]
    #[must_use]
    pub fn stream_ends(&self) -> Vec<E> {
        let mut list = lock(&self.list);
        list.streams = list.streams.saturating_sub(1);
        if list.streams == 0 { core::mem::take(&mut list.events) } else { Vec::new() }
    }

    /// Moves at most `most` events to the end of `events`, as far as the host has memory for them
    /// there.
    #[inline]
    pub fn take(&self, events: &mut Vec<E>, most: usize) {
        if events.try_reserve(most).is_ok() {
            let mut list = lock(&self.list);
            let first = list.events.len().saturating_sub(most);
            events.extend(list.events.drain(first..));
        }
    }

    /// Keeps as many of `events` as there is room for; the caller destroys the others.
    #[inline]
    pub fn keep(&self, events: &mut impl ExactSizeIterator<Item = E>) {
        let mut list = lock(&self.list);
        let room = MOST.saturating_sub(list.events.len()).min(events.len());
        if list.streams != 0 && list.events.try_reserve(room).is_ok() {
            list.events.extend(events.by_ref().take(room));
        }
    }
}

impl<E> Default for SpareEvents<E> {
    #[inline]
    fn default() -> Self {
        SpareEvents::new()
    }
}

impl<E> fmt::Debug for SpareEvents<E> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpareEvents").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_kept_up_to_the_bound_and_while_a_stream_is_open() {
        let spares = SpareEvents::new();
        let mut early = [1].into_iter();
        spares.keep(&mut early);
        assert_eq!(early.len(), 1, "no stream is open");
        spares.stream_opens();
        spares.stream_opens();
        let mut events = 0..MOST + 5;
        spares.keep(&mut events);
        assert_eq!(events, MOST..MOST + 5);
        let mut taken = vec![7];
        spares.take(&mut taken, 3);
        assert_eq!(taken, [7, MOST - 3, MOST - 2, MOST - 1]);
        assert_eq!(spares.stream_ends(), []);
        assert_eq!(spares.stream_ends(), (0..MOST - 3).collect::<Vec<_>>());
        spares.take(&mut taken, 3);
        assert_eq!(taken.len(), 4);
    }
}
