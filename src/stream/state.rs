//! The host-side state of one stream, which a brand's handle points to.
//!
//! It lives in the frame of the library that opened the stream, or in a lane, and one thread at a
//! time uses it. It holds the raw stream, the events, the deferred frees, the staging ring, and the
//! error that poisoned the stream, if one did.

use core::{
    alloc::Layout,
    cell::{Cell, RefCell},
    fmt,
    num::NonZero,
    ptr::{self, NonNull},
};
use std::sync::Arc;

use tidelock_driver::{
    AllocError, Allocation, Backend, Code, CopyBatch, DeviceOf, DeviceState, DriverError, EventOf, GatherScratch,
    Operands, RawDevice, RawStream, StreamOf,
};

use super::{
    DeferredFree, StreamOptions,
    deferred_free::{DeferredFrees, Waiting},
    record::Records,
    registered::Registered,
    ring::Ring,
    shared_memory::SharedMemory,
    words::Words,
};
use crate::error::{Error, Result};

/// The host-side state of one stream of backend `B`.
pub struct StreamState<B: Backend> {
    pub(super) raw: StreamOf<B>,
    /// The failure that made the stream unusable, if there was one.
    pub(super) poison: Cell<Option<DriverError>>,
    /// The number of submissions so far that something waits for: event records and deferred frees.
    pub(super) submitted: Cell<u64>,
    /// The host has seen that the stream passed this submission and all before it.
    pub(super) completed: Cell<u64>,
    /// Whether borrowed host memory is on loan to the stream until the scope ends.
    pub(super) loans: Cell<bool>,
    /// Whether borrowed host memory is on loan to the stream until the stream or the visit ends.
    pub(super) lasting_loans: Cell<bool>,
    leaked: Cell<usize>,
    /// Whether a request for memory may wait for the stream before it is refused.
    pub(super) waits_for_memory: bool,
    deferred_frees: RefCell<DeferredFrees<B>>,
    ring: Ring<B>,
    /// The start addresses of host memory that is page-locked until the scope ends. All of it is on
    /// loan.
    pub(super) registered: RefCell<Vec<Registered>>,
    /// Unused events.
    pub(super) events: RefCell<Vec<EventOf<B>>>,
    pub(super) records: Records<B>,
    /// Unused events that take the time.
    pub(super) timed_events: RefCell<Vec<EventOf<B>>>,
    /// Room to expand the row gathers of a batch, if the stream takes none.
    scratch: GatherScratch,
    /// The host's copies of tables that were dropped, for the next tables.
    pub(super) words: RefCell<Vec<Words>>,
}

/// How many events are created at once: when the stream opens, so that the first fence, transfer or
/// loan creates none, and whenever all are in use. One call for several is cheaper where a driver
/// looks up its context first (E6). The staging ring keeps up to
/// four of them, a loan takes two, and a pipeline of two iterations takes a fence each.
pub(super) const EVENTS: usize = 8;

impl<B: Backend> StreamState<B> {
    /// The state of a fresh stream, with its first events. The calling thread has entered it.
    ///
    /// # Errors
    /// The driver's error. The stream is destroyed then.
    pub(crate) fn new(raw: StreamOf<B>, options: &StreamOptions) -> Result<Self> {
        let state = StreamState::<B> {
            raw,
            poison: Cell::new(None),
            submitted: Cell::new(0),
            completed: Cell::new(0),
            loans: Cell::new(false),
            lasting_loans: Cell::new(false),
            leaked: Cell::new(0),
            waits_for_memory: options.wait_for_memory,
            deferred_frees: RefCell::new(DeferredFrees::new(options.max_deferred_frees, options.max_deferred_bytes)),
            ring: Ring::new(options.ring_bytes),
            registered: RefCell::new(Vec::new()),
            events: RefCell::new(Vec::new()),
            records: Records::new(),
            timed_events: RefCell::new(Vec::new()),
            scratch: GatherScratch::default(),
            words: RefCell::new(Vec::new()),
        };
        state.enter();
        state.create_events()?;
        if options.warm {
            // The stream does not open. Work of `warm` may be enqueued (S7), so wait for it before
            // its memory is given back.
            state.warm().inspect_err(|_| {
                let _ = state.synchronize();
            })?;
        }
        Ok(state)
    }

    /// Acquires what the stream otherwise acquires at its first use (S7).
    fn warm(&self) -> Result<()> {
        self.create_events()?;
        self.ring.block(self)?;
        self.with_raw(RawStream::warm)
    }

    pub(crate) fn ordinal(&self) -> usize {
        self.device().ordinal()
    }

    /// The stream's device.
    pub(crate) fn device(&self) -> &DeviceOf<B> {
        self.raw.device()
    }

    /// The state of the device, whose address is the device's identity (D1).
    pub(crate) fn shared(&self) -> &DeviceState {
        self.device().shared()
    }

    pub(crate) fn leaked_bytes(&self) -> usize {
        self.leaked.get()
    }

    /// Fails if the stream is poisoned.
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        match self.poison.get() {
            None => Ok(()),
            Some(error) => Err(Error::Poisoned(error)),
        }
    }

    /// As [`check`](StreamState::check), for allocators.
    #[inline]
    pub(crate) fn usable(&self) -> Result<(), AllocError> {
        match self.poison.get() {
            None => Ok(()),
            Some(error) => Err(AllocError::Poisoned(error.code)),
        }
    }

    /// Poisons the stream if the error is sticky (F4); returns `answer` as it is.
    pub(super) fn note<T>(&self, answer: Result<T, DriverError>) -> Result<T, DriverError> {
        if let Err(error) = answer
            && error.code.is_sticky()
        {
            self.poison.set(Some(self.poison.get().unwrap_or(error)));
        }
        answer
    }

    /// Makes the stream unusable, because the device may still use memory that cannot be waited
    /// for.
    pub(crate) fn poison(&self, error: Error) {
        let (Error::Driver(error) | Error::Poisoned(error)) = error else { return };
        self.poison.set(Some(self.poison.get().unwrap_or(error)));
    }

    /// Counts a submission and returns its number.
    #[inline]
    pub(super) fn tick(&self) -> u64 {
        let submitted = self.submitted.get().wrapping_add(1);
        self.submitted.set(submitted);
        submitted
    }

    // ---- memory ----

    #[inline]
    pub(crate) fn alloc(&self, bytes: NonZero<usize>) -> Result<NonNull<u8>, AllocError> {
        let request = Allocation::new(bytes);
        self.records.stir();
        self.raw.alloc(request).or_else(|error| self.reclaim(error, || self.raw.alloc(request)))
    }

    /// Frees in stream order. If the raw stream does not free in order (M8), the free is deferred
    /// until the stream is seen to have passed what is enqueued now. Leaks if the stream is
    /// poisoned (F5).
    ///
    /// # Safety
    /// As for `RawStream::free`. `bytes` is the size that was requested.
    #[inline]
    pub(crate) unsafe fn free(&self, ptr: NonNull<u8>, bytes: usize) {
        if self.poison.get().is_some() {
            return self.leak(bytes);
        }
        if !self.raw.frees_in_order() {
            // SAFETY:
            // - The memory comes from a stream that does not free in order, and all work that uses
            //   it is enqueued: once that has passed, `free_now` may take it (M8).
            return unsafe { self.defer_free(DeferredFree::of_stream(ptr, bytes)) };
        }
        // SAFETY:
        // - The caller keeps the contract of `RawStream::free` (M5). The stream is not poisoned
        //   (F5).
        let answer = unsafe { self.raw.free(ptr) };
        if self.note(answer).is_err() {
            self.leak(bytes);
        }
    }

    #[inline]
    pub(crate) fn alloc_now(&self, bytes: NonZero<usize>) -> Result<NonNull<u8>, AllocError> {
        let request = Allocation::new(bytes);
        self.records.stir();
        self.raw.alloc_now(request).or_else(|error| self.reclaim(error, || self.raw.alloc_now(request)))
    }

    /// Carries out `free` once the stream is seen to have passed what is enqueued now.
    ///
    /// If the list of deferred frees is full, this queries the stream, and waits for it if it is
    /// busy.
    ///
    /// # Safety
    /// - As for `DeferredFree::free`, once the stream has passed what is enqueued now.
    pub(crate) unsafe fn defer_free(&self, free: DeferredFree<B>) {
        if self.poison.get().is_some() {
            return self.leak(free.leak());
        }
        let submitted = self.tick();
        let Err(free) = self.deferred_frees.borrow_mut().push(free, submitted) else { return };
        let passed = matches!(self.is_idle(), Ok(true)) || self.synchronize().is_ok();
        if passed {
            // SAFETY:
            // - The stream has just passed everything enqueued before (H1).
            unsafe { self.release(free) }
        } else {
            self.leak(free.leak());
        }
    }

    /// The bytes of deferred frees.
    pub(super) fn waiting(&self) -> Waiting {
        self.deferred_frees.borrow().waiting()
    }

    fn leak(&self, bytes: usize) {
        self.leaked.set(self.leaked.get().saturating_add(bytes));
    }

    /// Carries out the deferred frees that the stream is known to have passed.
    pub(super) fn sweep(&self) {
        loop {
            // The borrow ends before memory is freed.
            let Some(free) = self.deferred_frees.borrow_mut().pop(self.completed.get()) else { return };
            // SAFETY:
            // - `pop` returns a deferred free once, and only when the stream has passed the point
            //   where it was deferred (H1).
            unsafe { self.release(free) }
        }
    }

    /// Gives up the owners of `memory` that wait for the stream. The caller is another owner on this
    /// stream, so that what they were used for stays ordered.
    pub(super) fn give_up_deferred(&self, memory: &Arc<SharedMemory<B>>) {
        loop {
            // The borrow ends before an owner is given up.
            let Some(free) = self.deferred_frees.borrow_mut().take_shared(memory) else { return };
            free.join();
        }
    }

    /// # Safety
    /// As for `DeferredFree::free`.
    unsafe fn release(&self, free: DeferredFree<B>) {
        let bytes = free.bytes();
        // SAFETY:
        // - The caller keeps the contract.
        let answer = unsafe { free.free_now(&self.raw) };
        if self.note(answer).is_err() {
            self.leak(bytes);
        }
    }

    // ---- work ----

    /// Enqueues a copy; nothing if `bytes` is 0.
    ///
    /// # Safety
    /// As for `RawStream::copy`.
    #[inline]
    pub(crate) unsafe fn copy(&self, dst: *mut u8, src: *const u8, bytes: usize) -> Result<()> {
        self.check()?;
        let Some(bytes) = NonZero::new(bytes) else { return Ok(()) };
        self.records.stir();
        // SAFETY:
        // - The caller keeps the contract of `RawStream::copy` (C1 to C4).
        let answer = unsafe { self.raw.copy(dst, src, bytes) };
        Ok(self.note(answer)?)
    }

    /// Enqueues a fill; nothing if `bytes` is 0.
    ///
    /// # Safety
    /// As for `RawStream::fill`.
    #[inline]
    pub(crate) unsafe fn fill(&self, dst: *mut u8, value: u8, bytes: usize) -> Result<()> {
        self.check()?;
        let Some(bytes) = NonZero::new(bytes) else { return Ok(()) };
        self.records.stir();
        // SAFETY:
        // - The caller keeps the contract of `RawStream::fill` (C1, C2, C4).
        let answer = unsafe { self.raw.fill(dst, value, bytes) };
        Ok(self.note(answer)?)
    }

    /// Enqueues a batch; nothing if it is empty. Operands that the stream does not take become
    /// plain copies first (V2).
    ///
    /// # Errors
    /// `NOT_SUPPORTED` for row gathers whose numbers lie in device memory, if the stream does not
    /// take them (O9): nothing is enqueued then. Otherwise the driver's error (F3).
    ///
    /// # Safety
    /// As for `RawStream::batch`, with operands of any kind.
    #[inline]
    pub(crate) unsafe fn batch(&self, batch: CopyBatch<'_>) -> Result<()> {
        self.check()?;
        if batch.is_empty() {
            return Ok(());
        }
        self.records.stir();
        if const { !StreamOf::<B>::TAKES.has(ALL_OPERANDS) } {
            // SAFETY:
            // - The caller keeps the same contract.
            return unsafe { self.lowered_batch(&batch) };
        }
        // SAFETY:
        // - The caller keeps the contract of `RawStream::batch` (C1 to C4), and the stream takes
        //   all kinds of operands.
        let answer = unsafe { self.raw.batch(batch) };
        Ok(self.note(answer)?)
    }

    /// Enqueues a batch on a stream that does not take all kinds of operands.
    ///
    /// # Safety
    /// As for [`batch`](StreamState::batch).
    unsafe fn lowered_batch(&self, batch: &CopyBatch<'_>) -> Result<()> {
        let takes = StreamOf::<B>::TAKES;
        let gathers = batch.gathers.all().iter();
        let is_taken = gathers.clone().all(|gather| takes.has(gather.operands()))
            && (batch.strided.is_empty() || takes.has(Operands::STRIDED_COPIES));
        let mut on_device = gathers.filter(|gather| gather.numbers.is_none()).peekable();
        let has_on_device = on_device.peek().is_some();
        if !on_device.all(|gather| takes.has(gather.operands())) {
            let what = "a batch by row numbers that only the device has";
            return Err(DriverError::new(what, Code::NOT_SUPPORTED).into());
        }
        // Those of a stream that takes all gathers go with the rest of the batch.
        if has_on_device && !is_taken {
            self.scratch.on_device(batch.gathers, |gathers| {
                // SAFETY:
                // - The caller keeps the contract for these gathers, which the stream takes.
                let answer = unsafe { self.raw.batch(CopyBatch::default().with_gathers(gathers)) };
                Ok::<_, Error>(self.note(answer)?)
            })?;
        }
        let submit = |batch: &CopyBatch<'_>| {
            // SAFETY:
            // - The caller keeps the contract. The stream takes the row gathers and the strided
            //   copies, if any are left.
            unsafe { self.submit_copies(batch) }
        };
        if is_taken { submit(batch) } else { self.scratch.expanded(batch, submit) }
    }

    /// Enqueues copies. Those out of pageable host memory go through the staging ring if the stream
    /// does not take them (V2).
    ///
    /// # Safety
    /// As for [`batch`](StreamState::batch). The stream takes the row gathers and the strided
    /// copies, if there are any.
    unsafe fn submit_copies(&self, batch: &CopyBatch<'_>) -> Result<()> {
        let all = if StreamOf::<B>::TAKES.has(Operands::HOST_SOURCES) { batch.len.len() } else { batch.host_from };
        let first = batch.first(all).unwrap_or(*batch).with_host_from(batch.host_from);
        if !first.is_empty() {
            // SAFETY:
            // - The caller keeps the contract, and the stream takes what is left.
            let answer = unsafe { self.raw.batch(first) };
            self.note(answer)?;
        }
        for (dst, src, bytes) in batch.behind(all).unwrap_or_default().iter() {
            // SAFETY:
            // - The source is pageable host memory, valid and unchanged during the call: the caller
            //   keeps C1, C2 and C4.
            let source = unsafe { core::slice::from_raw_parts(src, bytes.get()) };
            // SAFETY:
            // - The caller keeps the contract for `dst`. Each copy is one piece, so that it is
            //   enqueued as a whole (F3).
            unsafe { self.upload(dst, source, bytes.get()) }?;
        }
        Ok(())
    }

    /// Enqueues copies of `bytes`, which are read before this returns. Up to a segment of the ring
    /// is one copy; more is one copy for each piece of whole elements of `size` bytes.
    ///
    /// # Errors
    /// If a piece is refused, those before it are enqueued.
    ///
    /// # Safety
    /// As for `RawStream::copy`, for `dst`.
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
                // - C1, C4: the ring does not write `slot` again until the stream has passed the
                //   copy, and the slot is the ring's alone.
                // - The caller keeps the contract for `dst`, of which this is a part.
                unsafe { self.copy(to, slot.as_ptr(), piece.len()) }?;
            }
            to = to.wrapping_add(piece.len());
        }
        Ok(())
    }

    /// Enqueues a copy of one element that is larger than a segment of the ring, through a piece of
    /// the pinned pool, so that no copy carries half an element.
    ///
    /// # Safety
    /// As for `RawStream::copy`, for `dst`.
    #[cold]
    unsafe fn upload_apart(&self, dst: *mut u8, element: &[u8]) -> Result<()> {
        let layout = Layout::for_value(element);
        let place = self.pinned(layout).map_err(|error| self.pinned_refused(error, layout))?;
        // SAFETY:
        // - The piece is fresh from the pool and has as many bytes (P1).
        unsafe { ptr::copy_nonoverlapping(element.as_ptr(), place.as_ptr(), element.len()) };
        // SAFETY:
        // - C1: the piece is freed below, deferred until the stream has passed the copy.
        // - The caller keeps the contract for `dst`.
        let answer = unsafe { self.copy(dst, place.as_ptr(), element.len()) };
        // SAFETY:
        // - The piece comes from the pinned pool with this layout, and is owned here alone.
        unsafe { self.defer_free(DeferredFree::pinned(place, layout)) }
        answer
    }

    /// Calls `f` with the raw stream, if the stream is not poisoned.
    #[inline]
    pub(crate) fn with_raw<T>(&self, f: impl FnOnce(&StreamOf<B>) -> Result<T, DriverError>) -> Result<T> {
        self.check()?;
        Ok(self.note(f(&self.raw))?)
    }

    /// The raw stream, if the stream is not poisoned, for calls that enqueue and also have other
    /// errors than the driver's. Pass their result to [`keep_poison`](StreamState::keep_poison).
    #[inline]
    pub(crate) fn usable_raw(&self) -> Result<&StreamOf<B>> {
        self.check()?;
        self.records.stir();
        Ok(&self.raw)
    }

    /// Poisons the stream if `answer` says that the device is broken; returns `answer` as it is.
    #[inline]
    pub(crate) fn keep_poison(&self, answer: Result<()>) -> Result<()> {
        if let Err(error @ Error::Poisoned(_)) = answer {
            self.poison(error);
        }
        answer
    }

    pub(crate) fn trim(&self, keep: usize) -> Result<()> {
        self.with_raw(|raw| raw.trim(keep))
    }
}

impl<B: Backend> Drop for StreamState<B> {
    /// The frame, or the lane, has waited for the stream. If it could not, the stream is poisoned, and what it
    /// may be using is leaked.
    fn drop(&mut self) {
        self.ring.close(self.poison.get().is_none());
        self.records.close();
        self.deferred_frees.get_mut().leak();
        let own = core::mem::take(self.events.get_mut());
        let timed = core::mem::take(self.timed_events.get_mut());
        self.ring.events().chain(own).chain(timed).for_each(|event| self.destroy_event(event));
    }
}

/// The kinds of operands that a batch of the typed layer may have.
const ALL_OPERANDS: Operands = Operands::HOST_SOURCES
    .and(Operands::ROW_GATHERS)
    .and(Operands::DEVICE_ROW_GATHERS)
    .and(Operands::ROW_SCATTERS)
    .and(Operands::PITCHED_ROWS)
    .and(Operands::STRIDED_COPIES);

impl<B: Backend> fmt::Debug for StreamState<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamState").field("poison", &self.poison).finish_non_exhaustive()
    }
}
