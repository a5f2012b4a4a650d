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
    device::{Backend, Copies, Queue, code::DriverError},
    error::{Error, Result},
};

/// The host-side state of one stream of backend `B`.
pub struct Core<B: Backend> {
    pub(super) queue: B::Queue,
    /// Why the stream is of no use any more, if so.
    pub(super) poison: Cell<Option<DriverError>>,
    /// How often something was handed to the device that must wait for it: the clock of `observed`.
    pub(super) issued: Cell<u64>,
    /// The device is known to have passed everything up to here.
    pub(super) observed: Cell<u64>,
    /// Whether borrowed host memory is on loan to the stream until the scope ends.
    pub(super) loans: Cell<bool>,
    /// Whether borrowed host memory is on loan to the stream until the stream ends.
    pub(super) lasting_loans: Cell<bool>,
    leaked: Cell<usize>,
    /// Whether a request for memory that cannot be met may wait for the stream.
    pub(super) waits_for_memory: bool,
    graveyard: RefCell<Graveyard>,
    ring: Ring<B>,
    /// Where host memory starts that is page-locked until the scope ends; if there is any, it is on loan.
    pub(super) registered: RefCell<Vec<NonNull<u8>>>,
    /// Events for the records to come, at most [`SPARE`].
    pub(super) events: RefCell<Vec<<B::Queue as Queue>::Event>>,
}

/// An event recorded on a stream, and how far the stream had come then.
pub(crate) struct Mark<E> {
    pub(super) event: E,
    pub(super) issued: u64,
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
pub(super) const EVENTS: usize = 8;

/// The most events that a stream keeps for later: of more it gives [`EVENTS`] to the device, from which every stream that
/// has none takes as many, so that events that go round with memory are as many in each round.
pub(super) const SPARE: usize = 16;

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
            graveyard: RefCell::new(Graveyard::new(options.max_deferred_frees, options.max_deferred_bytes)),
            ring: Ring::new(options.ring_bytes),
            registered: RefCell::new(Vec::new()),
            events: RefCell::new(Vec::new()),
        };
        core.queue.spares().stream_opens();
        // Room for all of them, so that a device that lags behind does not make the host allocate later (rule R16). Without
        // it, they are kept as far as there is room.
        let _ = core.events.borrow_mut().try_reserve(SPARE);
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
    pub(super) fn tick(&self) -> u64 {
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
    pub(super) fn sweep(&self) {
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
