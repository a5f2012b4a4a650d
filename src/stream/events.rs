//! Recording events on a stream, waiting for them, and keeping them for the next record.
//!
//! Invariants, on which the SAFETY comments of calls with events rely (E5, E7):
//! 1. Every event in `StreamState::events`, in an [`EventRecord`], or returned by
//!    [`event`](StreamState::event) was created by a stream of the same device, and is not
//!    destroyed. It has one owner, which may be a [`SharedRecord`](super::record::SharedRecord).
//! 2. An owner passes an event to [`recycle`](StreamState::recycle) or destroys it, once.

use core::ptr;

use tidelock_driver::{Backend, Code, DeviceOf, DriverError, EventOf, RawDevice, RawStream};

use super::{
    record::EventRecord,
    state::{EVENTS, StreamState},
};
use crate::error::{Error, Result};

impl<B: Backend> StreamState<B> {
    /// Records an event behind everything enqueued so far.
    pub(crate) fn record(&self) -> Result<EventRecord<EventOf<B>>> {
        let event = self.event()?;
        self.record_into(event).inspect_err(|_| self.recycle(event))
    }

    /// An event to record later.
    pub(crate) fn event(&self) -> Result<EventOf<B>> {
        self.check()?;
        let pooled = self.events.borrow_mut().pop();
        match pooled {
            Some(event) => Ok(event),
            None => self.fresh_event(),
        }
    }

    /// A new event. Creates [`EVENTS`] at once; if the driver refuses some of them, the others are
    /// used.
    #[cold]
    fn fresh_event(&self) -> Result<EventOf<B>> {
        let answer = self.create_events();
        let created = self.events.borrow_mut().pop();
        match (created, answer) {
            (Some(event), _) => Ok(event),
            (None, Err(error)) => Err(error),
            // They were created, but the host had no memory for the list.
            (None, Ok(())) => Err(DriverError::new("creating events", Code::OUT_OF_MEMORY).into()),
        }
    }

    /// Creates [`EVENTS`] events and keeps them for later records.
    ///
    /// # Errors
    /// The driver's error. The events that were created before it are kept (E6).
    pub(super) fn create_events(&self) -> Result<()> {
        let mut events = [None; EVENTS];
        let answer = self.raw.create_events(&mut events);
        events.into_iter().flatten().for_each(|event| self.recycle(event));
        Ok(self.note(answer)?)
    }

    /// Records `event` behind everything enqueued so far. If that fails, the event still belongs to
    /// the caller.
    pub(crate) fn record_into(&self, event: EventOf<B>) -> Result<EventRecord<EventOf<B>>> {
        // SAFETY:
        // - Invariant 1. Any stream of the device may record it (E7).
        self.with_raw(|raw| unsafe { raw.record(event) })?;
        // The record is a submission of its own, behind all earlier ones.
        Ok(EventRecord::new(event, self.tick()))
    }

    /// Makes what is enqueued from now on wait for `event`, which a stream of `device` recorded.
    /// The host does not wait.
    ///
    /// # Errors
    /// [`Error::OtherDevice`], which names `operand`, if the stream is of another device, or the
    /// driver's error.
    pub(crate) fn wait_for(&self, event: EventOf<B>, device: &DeviceOf<B>, operand: &'static str) -> Result<()> {
        self.require_device(device, operand)?;
        self.records.stir();
        // SAFETY:
        // - Invariant 1: the event is of `device`, which is the stream's (D1, E7).
        self.with_raw(|raw| unsafe { raw.wait(event) })
    }

    /// [`Error::OtherDevice`], which names `operand`, unless `device` is the stream's.
    pub(crate) fn require_device(&self, device: &DeviceOf<B>, operand: &'static str) -> Result<()> {
        if ptr::eq(device.shared(), self.shared()) { Ok(()) } else { Err(Error::OtherDevice { operand }) }
    }

    /// Whether the stream has passed `record`.
    pub(crate) fn query_record(&self, record: &EventRecord<EventOf<B>>) -> Result<bool> {
        self.check()?;
        if self.has_passed(record) {
            return Ok(true);
        }
        // SAFETY:
        // - Invariant 1.
        let passed = self.with_raw(|raw| unsafe { raw.has_passed(record.event()) })?;
        if passed {
            self.passed(record.submitted());
        }
        Ok(passed)
    }

    /// Waits until the stream has passed `record`.
    pub(crate) fn wait_for_record(&self, record: &EventRecord<EventOf<B>>) -> Result<()> {
        self.check()?;
        if self.has_passed(record) {
            return Ok(());
        }
        // SAFETY:
        // - Invariant 1.
        self.with_raw(|raw| unsafe { raw.wait_event(record.event()) })?;
        self.passed(record.submitted());
        Ok(())
    }

    /// Whether the stream is known to have passed `record`, without a driver call.
    #[inline]
    pub(crate) fn has_passed(&self, record: &EventRecord<EventOf<B>>) -> bool {
        record.submitted() <= self.completed.get()
    }

    /// Whether the stream has passed everything enqueued so far. If so, deferred frees are carried
    /// out.
    pub(crate) fn is_idle(&self) -> Result<bool> {
        let is_idle = self.with_raw(RawStream::is_idle)?;
        if is_idle {
            // As after `synchronize`, the stream has passed all that was submitted (H1). No other
            // thread submits meanwhile (S1).
            self.passed(self.submitted.get());
        }
        Ok(is_idle)
    }

    pub(crate) fn synchronize(&self) -> Result<()> {
        self.with_raw(RawStream::synchronize)?;
        self.passed(self.submitted.get());
        Ok(())
    }

    fn passed(&self, submitted: u64) {
        if submitted > self.completed.get() {
            self.completed.set(submitted);
            self.sweep();
        }
    }

    /// Destroys an event, which the caller owns.
    pub(super) fn destroy_event(&self, event: EventOf<B>) {
        // SAFETY:
        // - Invariants 1 and 2: the owner passes it here.
        unsafe { self.device().destroy_event(event) }
    }

    /// Keeps the event of a record for a later record.
    pub(crate) fn recycle_record(&self, record: EventRecord<EventOf<B>>) {
        self.recycle(record.event());
    }

    /// Keeps an event, which the caller owns, for a later record.
    pub(crate) fn recycle(&self, event: EventOf<B>) {
        let mut events = self.events.borrow_mut();
        match events.try_reserve(1) {
            Ok(()) => events.push(event),
            Err(_) => self.destroy_event(event),
        }
    }
}
