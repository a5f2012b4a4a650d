//! Recording events on a stream, waiting for them, and keeping them for the next record.

#![forbid(unsafe_code)]

use super::core::{Core, EVENTS, EventOf, Mark, SPARE};
use crate::{
    device::{
        Backend, Queue,
        code::{Code, DriverError},
    },
    error::Result,
};

impl<B: Backend> Core<B> {
    /// Records an event behind everything enqueued so far.
    pub(crate) fn record(&self) -> Result<Mark<EventOf<B>>> {
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

    /// The first of some events that the device has to spare, or that are created now. If some are refused, the others will
    /// do.
    #[cold]
    fn fresh_event(&self) -> Result<EventOf<B>> {
        self.queue.spares().take(&mut self.events.borrow_mut(), EVENTS);
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
            (None, Ok(())) => Err(DriverError::new("cuEventCreate", Code::OUT_OF_MEMORY).into()),
        }
    }

    /// Creates [`EVENTS`] events for the records to come.
    ///
    /// # Errors
    /// What the driver answered; what was created before is kept.
    pub(super) fn create_events(&self) -> Result<()> {
        let mut events = [None; EVENTS];
        let answer = self.queue.create_events(&mut events);
        events.into_iter().flatten().for_each(|event| self.recycle(event));
        Ok(self.note(answer)?)
    }

    /// Records `event` behind everything enqueued so far; it stays the caller's if that fails.
    pub(crate) fn record_into(&self, event: EventOf<B>) -> Result<Mark<EventOf<B>>> {
        self.with_queue(|queue| queue.record(event))?;
        // A mark of its own: it lies behind everything that was counted before it.
        Ok(Mark { event, issued: self.tick() })
    }

    /// Makes what is enqueued from now on wait for `event` of another stream of the device. The host does not wait.
    pub(crate) fn wait_for(&self, event: EventOf<B>) -> Result<()> {
        self.with_queue(|queue| queue.wait(event))
    }

    /// Whether the stream has passed `mark`.
    pub(crate) fn query(&self, mark: &Mark<EventOf<B>>) -> Result<bool> {
        let passed = self.with_queue(|queue| queue.query(mark.event))?;
        if passed {
            self.passed(mark.issued);
        }
        Ok(passed)
    }

    /// Waits until the stream has passed `mark`.
    pub(crate) fn observe(&self, mark: &Mark<EventOf<B>>) -> Result<()> {
        self.with_queue(|queue| queue.observe(mark.event))?;
        self.passed(mark.issued);
        Ok(())
    }

    /// Puts the event of a mark that nobody looks at any more back for the next one.
    pub(crate) fn retire(&self, mark: Mark<EventOf<B>>) {
        self.recycle(mark.event);
    }

    /// Whether the stream has passed everything enqueued so far; what waited for that is given back then.
    pub(crate) fn is_idle(&self) -> Result<bool> {
        let is_idle = self.with_queue(Queue::is_idle)?;
        if is_idle {
            // The answer covers the same as a synchronise: all that this thread, which alone counts, has enqueued before it.
            self.passed(self.issued.get());
        }
        Ok(is_idle)
    }

    pub(crate) fn synchronize(&self) -> Result<()> {
        self.with_queue(Queue::synchronize)?;
        self.passed(self.issued.get());
        Ok(())
    }

    fn passed(&self, issued: u64) {
        if issued > self.observed.get() {
            self.observed.set(issued);
            self.sweep();
        }
    }

    /// Keeps an event for the next record.
    pub(crate) fn recycle(&self, event: EventOf<B>) {
        let mut events = self.events.borrow_mut();
        if events.len() >= SPARE {
            self.give_up(&mut events);
        }
        match events.try_reserve(1) {
            Ok(()) => events.push(event),
            Err(_) => self.queue.destroy_event(event),
        }
    }

    /// Gives [`EVENTS`] of `events` to the device; what it does not keep is destroyed.
    #[cold]
    fn give_up(&self, events: &mut Vec<EventOf<B>>) {
        let mut surplus = events.drain(events.len().saturating_sub(EVENTS)..);
        self.queue.spares().keep(&mut surplus);
        surplus.for_each(|event| self.queue.destroy_event(event));
    }
}
