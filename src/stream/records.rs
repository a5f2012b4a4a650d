//! Records that many owners share: those behind hand-overs and fences.
//!
//! A stream that has enqueued nothing since its latest record hands out that record again, and a
//! stream that has waited for a record does not wait for it twice. So any number of buffers that
//! cross together cost one record and one wait.

#![forbid(unsafe_code)]

use core::{
    array,
    cell::{Cell, RefCell},
    sync::atomic::{AtomicU64, Ordering},
};
use std::{collections::VecDeque, sync::Arc};

use tidelock_driver::{Backend, DeviceOf, DriverError, EventOf};

use super::{StreamState, events::EventRecord};
use crate::error::{Error, Result};

/// A record of a stream, with the device that keeps its event alive.
///
/// Invariants:
/// 1. `at.event` is of `device` and is not destroyed (E5, E7).
/// 2. The event is recorded again only by the stream that made the record, and only while no other
///    owner has the record.
pub(crate) struct SharedRecord<B: Backend> {
    at: EventRecord<EventOf<B>>,
    /// The identity of the stream that recorded it.
    stream: u64,
    device: DeviceOf<B>,
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
    stream: u64,
    /// Whether nothing was enqueued since `latest`.
    quiet: Cell<bool>,
    /// Whether others may enqueue on the stream, so that it is never quiet.
    exposed: Cell<bool>,
    latest: RefCell<Option<Arc<SharedRecord<B>>>>,
    /// Records to use again, the oldest first, at most [`KEPT`].
    kept: RefCell<VecDeque<Arc<SharedRecord<B>>>>,
    /// For the streams that were waited for last: the stream, and the latest submission.
    seen: [Cell<(u64, u64)>; SEEN],
    /// The entry of `seen` that is replaced next.
    replaced: Cell<usize>,
}

/// The most records that a stream keeps. A stream with more in flight at one time allocates one for
/// each further record.
const KEPT: usize = 64;

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

    fn is_behind(&self, record: &SharedRecord<B>) -> bool {
        let has_seen = |seen: &Cell<(u64, u64)>| {
            let (stream, submitted) = seen.get();
            stream == record.stream && record.at.submitted() <= submitted
        };
        !self.exposed.get() && (record.stream == self.stream || self.seen.iter().any(has_seen))
    }

    /// Remembers that the stream waits for `record`.
    fn remember(&self, record: &SharedRecord<B>) {
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

impl<B: Backend> StreamState<B> {
    /// Remembers that others may enqueue on the stream from now on. No record is shared and no wait
    /// is left out any more.
    pub(crate) fn expose(&self) {
        self.records.exposed.set(true);
        self.records.stir();
    }

    /// A record behind everything enqueued so far: the latest one if nothing was enqueued since.
    ///
    /// # Errors
    /// The driver's error. Nothing has changed then.
    pub(crate) fn shared_record(&self) -> Result<Arc<SharedRecord<B>>> {
        self.check()?;
        if self.records.quiet.get()
            && let Some(latest) = &*self.records.latest.borrow()
        {
            return Ok(Arc::clone(latest));
        }
        self.record_as(self.unused_record()?)
    }

    /// A record that is not used, to pass to [`record_as`](StreamState::record_as) or
    /// [`keep_record`](StreamState::keep_record).
    ///
    /// # Errors
    /// The driver's error for creating an event.
    pub(super) fn unused_record(&self) -> Result<Arc<SharedRecord<B>>> {
        self.check()?;
        if !self.records.quiet.get() {
            // Otherwise it would never be unused.
            drop(self.records.latest.take());
        }
        let mut kept = self.records.kept.borrow_mut();
        for _ in 0..kept.len() {
            let Some(mut record) = kept.pop_front() else { break };
            if Arc::get_mut(&mut record).is_some() {
                return Ok(record);
            }
            kept.push_back(record);
        }
        let at = EventRecord::unrecorded(self.event()?);
        Ok(Arc::new(SharedRecord { at, stream: self.records.stream, device: self.device().clone() }))
    }

    /// As [`shared_record`](StreamState::shared_record), with `unused` for the record if a new one
    /// is needed.
    ///
    /// # Errors
    /// The driver's error. Nothing has changed then.
    pub(super) fn record_as(&self, mut unused: Arc<SharedRecord<B>>) -> Result<Arc<SharedRecord<B>>> {
        if let Err(error) = self.check() {
            // Also if the stream is quiet: what made it poisoned may have been enqueued elsewhere.
            self.keep_record(unused);
            return Err(error);
        }
        let latest = self.records.latest.borrow().clone();
        if let (true, Some(latest)) = (self.records.quiet.get(), latest) {
            self.keep_record(unused);
            return Ok(latest);
        }
        let answer = match Arc::get_mut(&mut unused) {
            Some(record) => self.record_into(record.at.event()).map(|at| record.at = at),
            // It has one owner: it comes from `unused_record`.
            None => Err(Error::OutOfRange { operand: "record" }),
        };
        if let Err(error) = answer {
            self.keep_record(unused);
            return Err(error);
        }
        self.keep_record(Arc::clone(&unused));
        *self.records.latest.borrow_mut() = Some(Arc::clone(&unused));
        self.records.quiet.set(!self.records.exposed.get());
        Ok(unused)
    }

    /// Keeps a record, to use it again once it has no other owner.
    pub(super) fn keep_record(&self, record: Arc<SharedRecord<B>>) {
        let mut kept = self.records.kept.borrow_mut();
        if kept.len() < KEPT && kept.try_reserve(1).is_ok() {
            kept.push_back(record);
        }
    }

    /// Whether what is enqueued from now on runs behind `record`: the stream has waited for it, or
    /// made it.
    pub(super) fn is_behind(&self, record: &SharedRecord<B>) -> bool {
        self.records.is_behind(record)
    }

    /// Makes what is enqueued from now on run behind `record`. Costs no driver call if it does
    /// already.
    ///
    /// # Errors
    /// [`Error::OtherDevice`], which names `operand`, if the record is of another device, or the
    /// driver's error.
    pub(crate) fn follow(&self, record: &SharedRecord<B>, operand: &'static str) -> Result<()> {
        self.check()?;
        self.require_device(&record.device, operand)?;
        if self.records.is_behind(record) {
            return Ok(());
        }
        self.wait_for(record.at.event(), &record.device, operand)?;
        self.records.remember(record);
        Ok(())
    }
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
}

impl Passed {
    /// Whether this proves that the device has passed `record`.
    pub(super) fn covers<B: Backend>(self, record: &SharedRecord<B>) -> bool {
        self.stream == record.stream && record.at.submitted() <= self.submitted
    }
}
