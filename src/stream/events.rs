//! Recording events on a stream, waiting for them, and keeping them for the next record.
//!
//! Invariants, which the calls of the contract about events lean on:
//! 1. Every event in `StreamState::events`, in an [`EventRecord`], or returned by
//!    [`event`](StreamState::event) was created by a stream of the same device, and is not
//!    destroyed before the last stream of the device ends: it lies with one owner, or among the
//!    spare events of the device.
//! 2. An owner gives an event up by [`recycle`](StreamState::recycle) or destroys it, once.

use core::ptr;

use tidelock_driver::{Backend, Code, DeviceOf, DriverError, EventOf, RawDevice, RawStream, SpareEvents};

use super::state::{EVENTS, SPARE, StreamState};
use crate::error::{Error, Result};

/// An event recorded on a stream, and how far the stream had come then.
pub(crate) struct EventRecord<E> {
    event: E,
    submitted: u64,
}

impl<E: Copy> EventRecord<E> {
    pub(crate) fn event(self) -> E {
        self.event
    }
}

impl<E: Copy> Clone for EventRecord<E> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<E: Copy> Copy for EventRecord<E> {}

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

    /// The first of some events that the device has to spare, or that are created now. If some are
    /// refused, the others will do.
    #[cold]
    fn fresh_event(&self) -> Result<EventOf<B>> {
        self.spare_events().take(&mut self.events.borrow_mut(), EVENTS);
        let spare = self.events.borrow_mut().pop();
        if let Some(event) = spare {
            return Ok(event);
        }
        let answer = self.create_events();
        let created = self.events.borrow_mut().pop();
        match (created, answer) {
            (Some(event), _) => Ok(event),
            (None, Err(error)) => Err(error),
            // They were created, and the host has no memory to keep them in.
            (None, Ok(())) => Err(DriverError::new("creating events", Code::OUT_OF_MEMORY).into()),
        }
    }

    /// The events that no stream of the device needs.
    pub(super) fn spare_events(&self) -> &SpareEvents<EventOf<B>> {
        // SAFETY:
        // - What this module adds is of the device (invariant 1), and its owner gives it up (invariant 2).
        // - A stream counts itself when its state is made, and when that is dropped.
        unsafe { self.shared().spare_events() }
    }

    /// Creates [`EVENTS`] events for the records to come.
    ///
    /// # Errors
    /// What the driver answered; what was created before is kept.
    pub(super) fn create_events(&self) -> Result<()> {
        let mut events = [None; EVENTS];
        let answer = self.raw.create_events(&mut events);
        events.into_iter().flatten().for_each(|event| self.recycle(event));
        Ok(self.note(answer)?)
    }

    /// Records `event` behind everything enqueued so far; it stays the caller's if that fails.
    pub(crate) fn record_into(&self, event: EventOf<B>) -> Result<EventRecord<EventOf<B>>> {
        // SAFETY:
        // - Invariant 1.
        self.with_raw(|raw| unsafe { raw.record(event) })?;
        // A record counts by itself: it lies behind everything that was counted before it.
        Ok(EventRecord { event, submitted: self.tick() })
    }

    /// Makes what is enqueued from now on wait for `event`, which a stream of `device` recorded.
    /// The host does not wait.
    ///
    /// # Errors
    /// [`Error::OtherDevice`], which names `operand`, if the stream is of another device; or what
    /// the driver answered.
    pub(crate) fn wait_for(&self, event: EventOf<B>, device: &DeviceOf<B>, operand: &'static str) -> Result<()> {
        self.require_device(device, operand)?;
        // SAFETY:
        // - Invariant 1: the event is of `device`, which is the stream's (D1).
        self.with_raw(|raw| unsafe { raw.wait(event) })
    }

    /// Refuses another device than the stream's, which is at `operand`.
    pub(crate) fn require_device(&self, device: &DeviceOf<B>, operand: &'static str) -> Result<()> {
        if ptr::eq(device.shared(), self.shared()) { Ok(()) } else { Err(Error::OtherDevice { operand }) }
    }

    /// Whether the stream has passed `record`.
    pub(crate) fn query(&self, record: &EventRecord<EventOf<B>>) -> Result<bool> {
        // SAFETY:
        // - Invariant 1.
        let passed = self.with_raw(|raw| unsafe { raw.has_passed(record.event) })?;
        if passed {
            self.passed(record.submitted);
        }
        Ok(passed)
    }

    /// Waits until the stream has passed `record`.
    pub(crate) fn observe(&self, record: &EventRecord<EventOf<B>>) -> Result<()> {
        // SAFETY:
        // - Invariant 1.
        self.with_raw(|raw| unsafe { raw.wait_event(record.event) })?;
        self.passed(record.submitted);
        Ok(())
    }

    /// Whether the stream is known to have passed `record`, without a driver call.
    #[inline]
    pub(crate) fn has_passed(&self, record: &EventRecord<EventOf<B>>) -> bool {
        record.submitted <= self.completed.get()
    }

    /// Whether the stream has passed everything enqueued so far; deferred frees are carried out
    /// then.
    pub(crate) fn is_idle(&self) -> Result<bool> {
        let is_idle = self.with_raw(RawStream::is_idle)?;
        if is_idle {
            // The answer covers the same as a synchronise: all that this thread, which alone
            // counts, has enqueued before it.
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

    /// Destroys an event. The caller is its owner.
    pub(super) fn destroy_event(&self, event: EventOf<B>) {
        // SAFETY:
        // - Invariants 1 and 2: the owner gives it up here.
        unsafe { self.device().destroy_event(event) }
    }

    /// Puts the event of a record back for the next one.
    pub(crate) fn recycle_record(&self, record: EventRecord<EventOf<B>>) {
        self.recycle(record.event);
    }

    /// Keeps an event for the next record. The caller is its owner.
    pub(crate) fn recycle(&self, event: EventOf<B>) {
        let mut events = self.events.borrow_mut();
        if events.len() >= SPARE {
            self.give_up(&mut events);
        }
        match events.try_reserve(1) {
            Ok(()) => events.push(event),
            Err(_) => self.destroy_event(event),
        }
    }

    /// Gives [`EVENTS`] of `events` to the device; what it does not keep is destroyed.
    #[cold]
    fn give_up(&self, events: &mut Vec<EventOf<B>>) {
        let mut surplus = events.drain(events.len().saturating_sub(EVENTS)..);
        self.spare_events().keep(&mut surplus);
        surplus.for_each(|event| self.destroy_event(event));
    }
}
