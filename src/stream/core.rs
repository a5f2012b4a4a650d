//! The host-side state of one stream: what the brand's handle points to.
//!
//! It lives in the library's frame that opened the stream and is used by one thread. It remembers what must wait: events,
//! deferred frees, the staging ring, and whether the stream is of use at all.

use core::{
    alloc::Layout,
    cell::{Cell, RefCell},
    fmt,
    num::NonZero,
    ptr::{self, NonNull},
};

use super::{
    Grave, StreamOptions,
    graveyard::{Graveyard, Waiting},
    ring::Ring,
};
use crate::{
    alloc::AllocError,
    device::{
        Backend, Copies, Queue,
        code::{Code, DriverError},
    },
    error::{Error, Result},
    location::Host,
};

/// The host-side state of one stream of backend `B`.
pub struct Core<B: Backend> {
    pub(super) queue: B::Queue,
    /// Why the stream is of no use any more, if so.
    poison: Cell<Option<DriverError>>,
    /// How often something was handed to the device that must wait for it: the clock of `observed`.
    issued: Cell<u64>,
    /// The device is known to have passed everything up to here.
    observed: Cell<u64>,
    /// Whether borrowed host memory is on loan to the stream until the scope ends.
    loans: Cell<bool>,
    /// Whether borrowed host memory is on loan to the stream until the stream ends.
    lasting_loans: Cell<bool>,
    leaked: Cell<usize>,
    /// Whether a request for memory that cannot be met may wait for the stream.
    pub(super) waits_for_memory: bool,
    graveyard: RefCell<Graveyard>,
    ring: Ring<B>,
    /// Where host memory starts that is page-locked until the scope ends; if there is any, it is on loan.
    registered: RefCell<Vec<NonNull<u8>>>,
    /// Events for the records to come, at most [`SPARE`].
    events: RefCell<Vec<<B::Queue as Queue>::Event>>,
}

/// An event recorded on a stream, and how far the stream had come then.
pub(crate) struct Mark<E> {
    event: E,
    issued: u64,
}

impl<E: Copy> Mark<E> {
    pub(crate) fn event(self) -> E {
        self.event
    }
}

impl<E: Copy> Clone for Mark<E> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<E: Copy> Copy for Mark<E> {}

/// What backend `B` calls a device.
pub(crate) type RemoteOf<B> = <<B as Backend>::Queue as Queue>::Remote;

/// The event type of backend `B`.
pub(crate) type EventOf<B> = <<B as Backend>::Queue as Queue>::Event;

/// How many events are created at once, because looking for the current context is a call too: when the stream opens, so
/// that a fence, a transfer or a loan is not the first to need one, and whenever all are in use and the device has none to
/// spare. The staging ring keeps up to four of them, a loan takes two, a pipeline of two iterations a fence each.
const EVENTS: usize = 8;

/// The most events that a stream keeps for later: of more it gives [`EVENTS`] to the device, from which every stream that
/// has none takes as many, so that events that go round with memory are as many in each round.
const SPARE: usize = 16;

impl<B: Backend> Core<B> {
    /// The state of a fresh stream, with its first events.
    ///
    /// # Errors
    /// What the driver answered; the stream is destroyed again.
    pub(crate) fn new(queue: B::Queue, options: &StreamOptions) -> Result<Self> {
        let core = Core::<B> {
            queue,
            poison: Cell::new(None),
            issued: Cell::new(0),
            observed: Cell::new(0),
            loans: Cell::new(false),
            lasting_loans: Cell::new(false),
            leaked: Cell::new(0),
            waits_for_memory: options.wait_for_memory,
            graveyard: RefCell::new(Graveyard::new(options.graveyard, options.graveyard_bytes)),
            ring: Ring::new(options.ring_bytes),
            registered: RefCell::new(Vec::new()),
            events: RefCell::new(Vec::new()),
        };
        core.queue.spares().stream_opens();
        core.create_events()?;
        if options.warm {
            // What was enqueued for it is waited for if the stream is not to be, so that its memory is given back.
            core.warm().inspect_err(|_| {
                let _ = core.synchronize();
            })?;
        }
        Ok(core)
    }

    /// Gets what is otherwise had at the first use.
    fn warm(&self) -> Result<()> {
        self.create_events()?;
        self.ring.block(self)?;
        self.with_queue(Queue::warm)
    }

    pub(crate) fn ordinal(&self) -> usize {
        self.queue.ordinal()
    }

    pub(crate) fn device_id(&self) -> usize {
        self.queue.device_id()
    }

    pub(crate) fn remote(&self) -> RemoteOf<B> {
        self.queue.remote()
    }

    pub(crate) fn leaked_bytes(&self) -> usize {
        self.leaked.get()
    }

    /// The stream, if it is of use.
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        match self.poison.get() {
            None => Ok(()),
            Some(error) => Err(Error::Poisoned(error)),
        }
    }

    /// As [`check`](Core::check), for allocators.
    #[inline]
    pub(crate) fn usable(&self) -> Result<(), AllocError> {
        match self.poison.get() {
            None => Ok(()),
            Some(error) => Err(AllocError::Poisoned(error.code)),
        }
    }

    /// Keeps a failure that is the device's for good.
    pub(super) fn note<T>(&self, answer: Result<T, DriverError>) -> Result<T, DriverError> {
        if let Err(error) = answer
            && error.code.is_sticky()
        {
            self.poison.set(Some(self.poison.get().unwrap_or(error)));
        }
        answer
    }

    /// Makes the stream useless: memory may be in use that nobody can wait for.
    pub(crate) fn poison(&self, error: Error) {
        let (Error::Driver(error) | Error::Poisoned(error)) = error else { return };
        self.poison.set(Some(self.poison.get().unwrap_or(error)));
    }

    /// Counts something that must wait for the device.
    #[inline]
    fn tick(&self) -> u64 {
        let issued = self.issued.get().wrapping_add(1);
        self.issued.set(issued);
        issued
    }

    /// Whether the device is known to have passed `mark`, without asking it.
    #[inline]
    pub(crate) fn has_passed(&self, mark: &Mark<EventOf<B>>) -> bool {
        mark.issued <= self.observed.get()
    }

    // ---- memory ----

    #[inline]
    pub(crate) fn alloc(&self, bytes: NonZero<usize>) -> Result<NonNull<u8>, AllocError> {
        self.queue.alloc(bytes).or_else(|error| self.reclaim(error, || self.queue.alloc(bytes)))
    }

    /// Frees in stream order, or once the stream is seen to have passed what is enqueued now, if the queue cannot; leaks if
    /// the stream is of no use.
    ///
    /// # Safety
    /// As for `Queue::free`; `bytes` is what the owner asked for.
    #[inline]
    pub(crate) unsafe fn free(&self, ptr: NonNull<u8>, bytes: usize) {
        if self.poison.get().is_some() {
            return self.leak(bytes);
        }
        if !self.queue.frees_in_order() {
            // SAFETY:
            // - The memory comes from a queue that does not free in order, and all work that uses it is enqueued.
            return unsafe { self.bury(Grave::of_queue(ptr, bytes)) };
        }
        // SAFETY:
        // - The caller keeps the contract of `Queue::free`.
        let answer = unsafe { self.queue.free(ptr) };
        if self.note(answer).is_err() {
            self.leak(bytes);
        }
    }

    #[inline]
    pub(crate) fn alloc_sync(&self, bytes: NonZero<usize>) -> Result<NonNull<u8>, AllocError> {
        self.queue.alloc_sync(bytes).or_else(|error| self.reclaim(error, || self.queue.alloc_sync(bytes)))
    }

    /// Frees `grave` once the stream is seen to have passed what is enqueued now.
    ///
    /// If the graveyard is full, this asks whether the stream is idle, and waits for it if not.
    ///
    /// # Safety
    /// - As for `Grave::free`, once the stream has passed what is enqueued now.
    pub(crate) unsafe fn bury(&self, grave: Grave) {
        if self.poison.get().is_some() {
            return self.leak(grave.bytes());
        }
        let issued = self.tick();
        let Err(grave) = self.graveyard.borrow_mut().push(grave, issued) else { return };
        let passed = matches!(self.is_idle(), Ok(true)) || self.synchronize().is_ok();
        if passed {
            // SAFETY:
            // - The stream has just passed everything enqueued before.
            unsafe { self.release(grave) }
        } else {
            self.leak(grave.bytes());
        }
    }

    /// Bytes that wait until the stream is seen to have passed their last use.
    pub(super) fn waiting(&self) -> Waiting {
        self.graveyard.borrow().waiting()
    }

    fn leak(&self, bytes: usize) {
        self.leaked.set(self.leaked.get().saturating_add(bytes));
    }

    /// Frees what the device is known to have passed.
    fn sweep(&self) {
        loop {
            // The borrow ends before memory is freed.
            let Some(grave) = self.graveyard.borrow_mut().pop(self.observed.get()) else { return };
            // SAFETY:
            // - The graveyard hands out a grave once, and only when the device has passed its burial.
            unsafe { self.release(grave) }
        }
    }

    /// # Safety
    /// As for `Grave::free`.
    unsafe fn release(&self, grave: Grave) {
        let bytes = grave.bytes();
        // SAFETY:
        // - The caller keeps the contract.
        let answer = unsafe { grave.free::<B>(&self.queue) };
        if self.note(answer).is_err() {
            self.leak(bytes);
        }
    }

    // ---- work ----

    /// Enqueues a copy; nothing if `bytes` is 0.
    ///
    /// # Safety
    /// As for `Queue::copy`.
    #[inline]
    pub(crate) unsafe fn copy(&self, dst: *mut u8, src: *const u8, bytes: usize) -> Result<()> {
        self.check()?;
        let Some(bytes) = NonZero::new(bytes) else { return Ok(()) };
        // SAFETY:
        // - The caller keeps the contract of `Queue::copy`.
        let answer = unsafe { self.queue.copy(dst, src, bytes) };
        Ok(self.note(answer)?)
    }

    /// Enqueues a fill; nothing if `bytes` is 0.
    ///
    /// # Safety
    /// As for `Queue::fill`.
    #[inline]
    pub(crate) unsafe fn fill(&self, dst: *mut u8, value: u8, bytes: usize) -> Result<()> {
        self.check()?;
        let Some(bytes) = NonZero::new(bytes) else { return Ok(()) };
        // SAFETY:
        // - The caller keeps the contract of `Queue::fill`.
        let answer = unsafe { self.queue.fill(dst, value, bytes) };
        Ok(self.note(answer)?)
    }

    /// Enqueues a batch; nothing if it is empty.
    ///
    /// # Safety
    /// As for `Queue::batch`.
    #[inline]
    pub(crate) unsafe fn batch(&self, copies: Copies<'_>) -> Result<()> {
        self.check()?;
        if copies.len.is_empty() && copies.moves.is_empty() {
            return Ok(());
        }
        // SAFETY:
        // - The caller keeps the contract of `Queue::batch`.
        let answer = unsafe { self.queue.batch(copies) };
        Ok(self.note(answer)?)
    }

    /// Enqueues copies of `bytes`, which are read before this returns: one copy, or for more than a segment of the ring takes
    /// one for each piece of whole elements of `size` bytes.
    ///
    /// # Errors
    /// If a piece is refused, those before it are enqueued.
    ///
    /// # Safety
    /// As for `Queue::copy`, for `dst`.
    pub(crate) unsafe fn upload(&self, dst: *mut u8, bytes: &[u8], size: usize) -> Result<()> {
        self.check()?;
        let mut to = dst;
        for piece in bytes.chunks(self.ring.piece(bytes.len(), size)) {
            if piece.len() > self.ring.segment().get() {
                // SAFETY:
                // - The caller keeps the contract for `dst`, of which this is a part.
                unsafe { self.upload_apart(to, piece) }?;
            } else {
                let slot = self.ring.stage(self, piece)?;
                // SAFETY:
                // - The ring keeps `slot` until the stream has passed the copy, and nobody writes it before.
                // - The caller keeps the contract for `dst`, of which this is a part.
                unsafe { self.copy(to, slot.as_ptr(), piece.len()) }?;
            }
            to = to.wrapping_add(piece.len());
        }
        Ok(())
    }

    /// Enqueues a copy of one element that is larger than a segment of the ring, through a piece of the pinned pool: half an
    /// element must never be there.
    ///
    /// # Safety
    /// As for `Queue::copy`, for `dst`.
    #[cold]
    unsafe fn upload_apart(&self, dst: *mut u8, element: &[u8]) -> Result<()> {
        let layout = Layout::for_value(element);
        let place = self.pinned(layout).map_err(|error| self.pinned_refused(error, layout))?;
        // SAFETY:
        // - The piece is fresh from the pool and has as many bytes.
        unsafe { ptr::copy_nonoverlapping(element.as_ptr(), place.as_ptr(), element.len()) };
        // SAFETY:
        // - The piece is buried below, and freed once the stream has passed the copy.
        // - The caller keeps the contract for `dst`.
        let answer = unsafe { self.copy(dst, place.as_ptr(), element.len()) };
        // SAFETY:
        // - The piece came from the pinned pool with this layout, and nobody else owns it.
        unsafe { self.bury(Grave::pinned(place, layout)) }
        answer
    }

    /// Does something else with the queue, if the stream is of use.
    #[inline]
    pub(crate) fn with_queue<T>(&self, f: impl FnOnce(&B::Queue) -> Result<T, DriverError>) -> Result<T> {
        self.check()?;
        Ok(self.note(f(&self.queue))?)
    }

    pub(crate) fn trim(&self, keep: usize) -> Result<()> {
        self.with_queue(|queue| queue.trim(keep))
    }

    // ---- waiting ----

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
    fn create_events(&self) -> Result<()> {
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

    // ---- borrowed host memory ----

    /// Notes that borrowed host memory is on loan to the stream until the scope ends.
    pub(crate) fn lend(&self) {
        self.loans.set(self.loans.get() || self.takes_loans());
    }

    /// Notes that borrowed host memory is on loan to the stream until the stream ends, whatever scope it was lent in.
    pub(crate) fn lend_for_life(&self) {
        self.lasting_loans.set(self.lasting_loans.get() || self.takes_loans());
    }

    /// Page-locks `bytes` bytes of borrowed host memory until the scope ends, and notes that it is on loan.
    ///
    /// # Errors
    /// What the driver answered; nothing has changed then.
    ///
    /// # Safety
    /// - The memory stays until the frame that closes the scope has settled, for writes too unless `read_only`.
    pub(crate) unsafe fn register(&self, ptr: NonNull<u8>, bytes: usize, read_only: bool) -> Result<()> {
        self.check()?;
        let Some(bytes) = NonZero::new(bytes) else { return Ok(()) };
        let mut registered = self.registered.borrow_mut();
        if registered.try_reserve(1).is_err() {
            return Err(AllocError::OutOfMemory.of::<Host>(size_of::<NonNull<u8>>()));
        }
        // SAFETY:
        // - The caller promises the memory until the end of the scope, which unregisters it.
        let answer = unsafe { self.queue.register(ptr.as_ptr(), bytes, read_only) };
        self.note(answer)?;
        registered.push(ptr);
        drop(registered);
        self.lend();
        Ok(())
    }

    /// Ends all registrations, each tried twice. What the driver refuses to unlock stays locked, and is the program's.
    fn unregister(&self) -> Result<()> {
        let mut answer = Ok(());
        while let Some(ptr) = self.registered.borrow_mut().pop() {
            let end = || {
                // SAFETY:
                // - The memory was on loan, and the stream has just been waited for: no work uses it.
                let ended = unsafe { self.queue.unregister(ptr.as_ptr()) };
                self.note(ended)
            };
            answer = answer.and(end().or_else(|_| end()));
        }
        Ok(answer?)
    }

    /// Whether a loan can come into use: a poisoned stream refuses every operation.
    fn takes_loans(&self) -> bool {
        self.poison.get().is_none()
    }

    /// Waits until the device has finished with borrowed host memory: that of a scope, or at the end of the stream, all.
    ///
    /// If it cannot be waited for while memory is on loan, the process is aborted: the memory's owner is about to use it
    /// again, and there is no other way to keep the device from writing into it (rule R12).
    pub(crate) fn settle(&self, is_stream: bool) -> Result<()> {
        let on_loan = self.loans.get() || (is_stream && self.lasting_loans.get());
        let mut answer = self.synchronize();
        // What would abort the process, or leak all that the stream may be using, is tried twice.
        if answer.is_err() && (on_loan || is_stream) && self.poison.get().is_none() {
            answer = self.synchronize();
        }
        if answer.is_err() && on_loan {
            std::process::abort();
        }
        self.loans.set(false);
        // SAFETY:
        // - The stream was waited for above, or nothing is on loan.
        unsafe { self.queue.loans_end() };
        // Without a wait there are none: they are on loan.
        answer.and_then(|()| self.unregister())
    }
}

impl<B: Backend> Drop for Core<B> {
    /// The frame has waited for the stream; whatever it could not wait for is leaked.
    fn drop(&mut self) {
        self.ring.close(self.poison.get().is_none());
        let spare = self.queue.spares().stream_ends();
        for event in self.ring.events().chain(self.events.get_mut().drain(..)).chain(spare) {
            self.queue.destroy_event(event);
        }
    }
}

impl<B: Backend> fmt::Debug for Core<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("poison", &self.poison).finish_non_exhaustive()
    }
}
