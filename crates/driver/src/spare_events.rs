//! The spare events of a device: events that none of its streams uses at the moment.

#![forbid(unsafe_code)]

use core::fmt;

use crate::sync::{Mutex, lock};

/// The spare events of one device, shared by its streams and by memory that outlives them.
///
/// Memory that is detached on one stream and attached on another takes an event with it. A stream
/// with too many events puts some here, and a stream without events takes some. A wait that was
/// enqueued keeps the point of the record at that time (E2, E3), so that recording an event again
/// changes no wait.
///
/// While no stream of the device is open, the list is empty (D8).
pub struct SpareEvents<E> {
    list: Mutex<List<E>>,
}

struct List<E> {
    /// The number of open streams.
    streams: usize,
    /// Invariants: at most [`MOST`] events, and none if `streams` is 0.
    events: Vec<E>,
}

/// The most events that are kept.
const MOST: usize = 1024;

impl<E> SpareEvents<E> {
    /// An empty list, with no open stream.
    #[inline]
    #[must_use]
    pub const fn new() -> Self {
        SpareEvents { list: Mutex::new(List { streams: 0, events: Vec::new() }) }
    }

    /// Counts a stream that opens.
    #[inline]
    pub fn stream_opens(&self) {
        let mut list = lock(&self.list);
        list.streams = list.streams.saturating_add(1);
    }

    /// Counts a stream that ends. For the last one, returns all events, which the caller destroys.
    #[inline]
    #[must_use]
    pub fn stream_ends(&self) -> Vec<E> {
        let mut list = lock(&self.list);
        list.streams = list.streams.saturating_sub(1);
        if list.streams == 0 { core::mem::take(&mut list.events) } else { Vec::new() }
    }

    /// Moves up to `most` events to the end of `events`; none if the host has no memory for that
    /// many.
    #[inline]
    pub fn take(&self, events: &mut Vec<E>, most: usize) {
        if events.try_reserve(most).is_ok() {
            let mut list = lock(&self.list);
            let first = list.events.len().saturating_sub(most);
            events.extend(list.events.drain(first..));
        }
    }

    /// Takes as many of `events` as there is room for. The caller destroys the others.
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
