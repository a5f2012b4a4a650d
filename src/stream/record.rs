//! Records of events: of one stream, and those that many owners share.

use core::{
    array,
    cell::{Cell, RefCell},
    sync::atomic::{AtomicU64, Ordering},
};
use std::{collections::VecDeque, sync::Arc};

use tidelock_driver::{Backend, DeviceOf, DriverError, EventOf, RawDevice};

/// An event recorded on a stream, and the number of the submission that the record is.
pub(crate) struct EventRecord<E> {
    event: E,
    submitted: u64,
}

impl<E: Copy> EventRecord<E> {
    pub(super) fn new(event: E, submitted: u64) -> Self {
        EventRecord { event, submitted }
    }

    /// An event that is not recorded yet.
    pub(super) fn unrecorded(event: E) -> Self {
        EventRecord { event, submitted: 0 }
    }

    pub(crate) fn event(self) -> E {
        self.event
    }

    /// The number of the submission.
    pub(super) fn submitted(&self) -> u64 {
        self.submitted
    }
}

impl<E: Copy> Clone for EventRecord<E> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<E: Copy> Copy for EventRecord<E> {}

/// A record of a stream, with the device that keeps its event alive.
///
/// Invariants:
/// 1. `at.event` is of `device` and is not destroyed (E5, E7).
/// 2. The event is recorded again only by the stream that made the record, and only while no other
///    owner has the record.
pub(crate) struct SharedRecord<B: Backend> {
    pub(super) at: EventRecord<EventOf<B>>,
    /// The identity of the stream that recorded it.
    pub(super) stream: u64,
    pub(super) device: DeviceOf<B>,
}

/// The proof that the device has passed a record of a stream, and all earlier ones of it (H1).
#[derive(Clone, Copy)]
pub(super) struct Passed {
    stream: u64,
    submitted: u64,
}

/// The shared records of one stream, and which records of other streams it has waited for.
pub(super) struct Records<B: Backend> {
    /// No other stream of the process has had this number.
    pub(super) stream: u64,
    /// Whether nothing was enqueued since `latest`.
    pub(super) quiet: Cell<bool>,
    /// Whether others may enqueue on the stream, so that it is never quiet.
    pub(super) exposed: Cell<bool>,
    pub(super) latest: RefCell<Option<Arc<SharedRecord<B>>>>,
    /// Records to use again, the oldest first, at most [`KEPT`].
    pub(super) kept: RefCell<VecDeque<Arc<SharedRecord<B>>>>,
    /// For the streams that were waited for last: the stream, and the latest submission.
    pub(super) seen: [Cell<(u64, u64)>; SEEN],
    /// The entry of `seen` that is replaced next.
    pub(super) replaced: Cell<usize>,
}

/// The most records that a stream keeps. A stream with more in flight at one time allocates one for
/// each further record.
pub(super) const KEPT: usize = 64;

/// The number of streams whose records are remembered. Waiting again for others costs a driver call
/// and changes nothing.
const SEEN: usize = 4;

impl<B: Backend> Records<B> {
    pub(super) fn new() -> Self {
        Records {
            stream: fresh_stream(),
            quiet: Cell::new(false),
            exposed: Cell::new(false),
            latest: RefCell::new(None),
            kept: RefCell::new(VecDeque::new()),
            seen: array::from_fn(|_| Cell::new((0, 0))),
            replaced: Cell::new(0),
        }
    }

    /// Ends the quiet period: the next hand-over needs a record of its own.
    #[inline]
    pub(super) fn stir(&self) {
        self.quiet.set(false);
    }

    pub(super) fn is_behind(&self, record: &SharedRecord<B>) -> bool {
        let has_seen = |seen: &Cell<(u64, u64)>| {
            let (stream, submitted) = seen.get();
            stream == record.stream && record.at.submitted() <= submitted
        };
        !self.exposed.get() && (record.stream == self.stream || self.seen.iter().any(has_seen))
    }

    /// Remembers that the stream waits for `record`.
    pub(super) fn remember(&self, record: &SharedRecord<B>) {
        let of_stream = self.seen.iter().position(|seen| seen.get().0 == record.stream);
        let at = of_stream.unwrap_or_else(|| {
            let at = self.replaced.get();
            self.replaced.set(at.wrapping_add(1) % SEEN);
            at
        });
        if let Some(seen) = self.seen.get(at) {
            seen.set((record.stream, record.at.submitted()));
        }
    }

    /// Removes the records, of which others may be owners too.
    pub(super) fn close(&self) {
        self.stir();
        drop(self.latest.take());
        drop(self.kept.take());
    }
}

/// A number that no other stream of the process has had.
fn fresh_stream() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl<B: Backend> SharedRecord<B> {
    /// A record that no stream of the library made. `event` is of `device`, and the record owns it.
    pub(super) fn of_no_stream(event: EventOf<B>, device: DeviceOf<B>) -> Self {
        SharedRecord { at: EventRecord::unrecorded(event), stream: fresh_stream(), device }
    }

    /// Whether both are of one stream.
    pub(super) fn is_of_stream_of(&self, other: &Self) -> bool {
        self.stream == other.stream
    }

    /// Whether it is an earlier record of the same stream.
    pub(super) fn is_before(&self, other: &Self) -> bool {
        self.is_of_stream_of(other) && self.at.submitted() < other.at.submitted()
    }

    pub(super) fn at(&self) -> &EventRecord<EventOf<B>> {
        &self.at
    }

    pub(super) fn device(&self) -> &DeviceOf<B> {
        &self.device
    }

    /// The identity of the stream that recorded it.
    pub(super) fn stream(&self) -> u64 {
        self.stream
    }

    /// Queries the event, on any thread. `None` if the device is still to pass the record.
    ///
    /// # Errors
    /// The driver's error.
    pub(super) fn query(&self) -> Result<Option<Passed>, DriverError> {
        let is_passed = self.is_passed()?;
        Ok(is_passed.then_some(Passed { stream: self.stream, submitted: self.at.submitted() }))
    }

    /// Whether the record is known to have been passed. Cost: one driver call. Any thread may call
    /// it.
    pub(super) fn has_passed(&self) -> bool {
        matches!(self.is_passed(), Ok(true))
    }

    /// As [`has_passed`](SharedRecord::has_passed), with the driver's error.
    fn is_passed(&self) -> Result<bool, DriverError> {
        // SAFETY:
        // - Invariant 1 of the type: the event is of the device and alive. An owner has the record,
        //   so that the event is not recorded again meanwhile.
        unsafe { self.device().has_passed(self.at().event()) }
    }

    /// Waits until the device has passed the record. Cost: one driver call, which blocks the calling
    /// thread. Any thread that executes no work of a device may call it.
    ///
    /// # Errors
    /// The driver's error.
    pub(super) fn wait(&self) -> Result<(), DriverError> {
        // SAFETY:
        // - As in `is_passed`.
        unsafe { self.device().wait_event(self.at().event()) }
    }
}

impl Passed {
    /// Whether this proves that the device has passed `record`.
    pub(super) fn covers<B: Backend>(self, record: &SharedRecord<B>) -> bool {
        self.stream == record.stream && record.at.submitted() <= self.submitted
    }
}

impl<B: Backend> Drop for SharedRecord<B> {
    fn drop(&mut self) {
        // SAFETY:
        // - Invariant 1 of the type: the event is of the device. This is its only owner, and drops
        //   it once (E5).
        unsafe { self.device().destroy_event(self.at().event()) }
    }
}
