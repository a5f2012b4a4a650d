//! Pinned memory that arrives: off its stream, waited for by any thread or awaited by any task, and
//! closures that are called once a stream has passed a point.

use core::{
    alloc::Layout,
    fmt,
    marker::PhantomData,
    pin::Pin,
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
    task::{self, Poll, Waker},
};
use std::sync::Arc;

use tidelock_driver::{AllocError, Backend, HostAccess, RawDevice};

use super::{
    Ctx,
    lane::outside_of_kernels,
    location::DeviceLocation,
    record::{Passed, SharedRecord},
    watcher::{Keeper, Waiter},
};
use crate::{
    alloc::{Allocator, PinnedAlloc},
    buffer::Buffer,
    error::{Error, Rejected, Result},
    location::{AnyThread, Location, Pinned, sealed::Sealed},
};

/// The location of pinned memory that belongs to no stream, and that a stream may still be writing.
///
/// [`Pending::detach`](super::Pending::detach) makes a `Buffer<T, Arriving<B>>`. It is `Send`, has
/// no lifetime, and may outlive streams and [`Device`](crate::Device) values. It returns as pinned
/// memory through [`wait`](Buffer::wait), which blocks the thread, or as a future through `await`.
///
/// # When a future wakes
///
/// A thread of the library queries the oldest awaited record of each stream, and wakes the tasks of
/// those that were passed. There is one thread for a device. It starts at the first need, and ends
/// a second after the last, or with the device. The streams get no operation but the record.
///
/// For 50 microseconds after something was passed, the thread queries without a pause. Then it
/// sleeps between two queries for a quarter of the time since, from 20 to 200 microseconds. So a
/// task wakes at the latest about 0.2 ms after the device has passed the record, and the time that
/// the system takes to run the threads. Where that is too late, [`wait`](Buffer::wait) blocks, and
/// [`is_ready`](Buffer::is_ready) asks again and again.
///
/// A broken device resolves every future with an error by the next query.
///
/// # Dropping
///
/// Dropping such memory never waits. If the device has passed the record, the memory is free at
/// once; this costs one driver call. Otherwise the thread frees it later. There is no limit to the
/// memory that waits so, because it is page-locked until then in any case;
/// [`Device::deferred_bytes`](crate::Device::deferred_bytes) is its size. If the device is broken,
/// it is leaked, and counted by [`Device::leaked_bytes`](crate::Device::leaked_bytes).
pub struct Arriving<B>(PhantomData<fn() -> B>);

/// The allocator of arriving memory: the record behind the last use. It allocates nothing.
pub struct ArrivingAlloc<B: Backend> {
    awaited: Awaited<B>,
}

/// A record that is waited for, and the ticket of the task that awaits it.
///
/// Dropping it takes the ticket back.
pub(super) struct Awaited<B: Backend> {
    record: Arc<SharedRecord<B>>,
    /// 0 if no task is registered, [`RETURNED`] if the future has returned its buffer. Written by
    /// the exclusive owner alone.
    ticket: AtomicU64,
}

/// Memory of the pinned pool whose owner was dropped. Leaked if it is not freed.
///
/// Invariant: it comes from the pinned pool with this layout, and nothing else owns it. All work on
/// it lies before the record that it is passed around with.
pub(super) struct PinnedPiece {
    ptr: NonNull<u8>,
    layout: Layout,
}

const RETURNED: u64 = u64::MAX;

/// The name of the blocking wait, in errors and race reports.
const WAITING: &str = "waiting for arriving memory";

impl<B: Backend> ArrivingAlloc<B> {
    pub(super) fn new(awaited: Awaited<B>) -> Self {
        ArrivingAlloc { awaited }
    }
}

impl<B: Backend> Location for Arriving<B> {
    type DefaultAlloc = ArrivingAlloc<B>;
    const NAME: &'static str = "arriving";
}
impl<B: Backend> AnyThread for Arriving<B> {}
impl<B: Backend> Sealed for Arriving<B> {}

// SAFETY:
// - It never allocates. A buffer in `Arriving` has memory of the pinned pool, and all work on it
//   lies before the record: `Pending::detach` alone makes such buffers.
unsafe impl<B: Backend> Allocator<Arriving<B>> for ArrivingAlloc<B> {
    #[inline]
    fn alloc(&self, _: Layout) -> Result<NonNull<u8>, AllocError> {
        Err(AllocError::OutOfMemory)
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: NonNull<u8>, layout: Layout) {
        let record = &self.awaited.record;
        let piece = PinnedPiece { ptr, layout };
        let bytes = piece.bytes();
        let is_accepted = match record.query() {
            Ok(Some(passed)) => piece.free(record, passed),
            Err(error) if error.code.is_sticky() => false,
            // A query that was refused is repeated.
            Ok(None) | Err(_) => Keeper::of(record).free_behind(record, piece),
        };
        if !is_accepted {
            record.device().shared().count_leak(bytes);
        }
    }
}

impl<T, B: Backend> Buffer<T, Arriving<B>> {
    /// Waits until the device has passed the fence, and returns the memory as pinned memory.
    ///
    /// Cost: one driver call, which blocks the calling thread. It does not wait for work behind the
    /// fence.
    ///
    /// # Errors
    /// The driver's error, with `self`, so that the wait can be tried again;
    /// [`Error::Taken`] if the memory was returned by an `await` before. In a
    /// kernel of the simulated device it is `NOT_PERMITTED`, because the stream may wait for the
    /// kernel.
    #[inline]
    pub fn wait(self) -> Result<Buffer<T, Pinned<B>>, Rejected<Self>> {
        let record = outside_of_kernels::<B>(WAITING).and_then(|()| self.allocator().awaited.record());
        let answer = record.and_then(|record| Ok(record.wait()?));
        if let Err(error) = answer {
            return Err(Rejected::new(error, self));
        }
        // SAFETY:
        // - The device has passed the record (H1).
        Ok(unsafe { self.arrived(WAITING) })
    }

    /// Whether [`wait`](Buffer::wait) would return at once. Cost: one driver call.
    ///
    /// # Errors
    /// The driver's error, or [`Error::Taken`].
    #[inline]
    pub fn is_ready(&self) -> Result<bool> {
        Ok(self.allocator().awaited.record()?.query()?.is_some())
    }

    /// The memory as pinned memory. `how` names the operation in a race report.
    ///
    /// # Safety
    /// - The device has passed the record.
    #[inline]
    unsafe fn arrived(self, how: &'static str) -> Buffer<T, Pinned<B>> {
        // SAFETY:
        // - P4: the elements belong to `self`, and the caller promises that the device has passed
        //   the record, before which all work on them lies.
        unsafe { Pinned::<B>::host_touches(HostAccess::write(self.as_ptr().cast(), self.byte_len(), how)) };
        let (ptr, len, _): (NonNull<T>, usize, ArrivingAlloc<B>) = self.into_raw_parts();
        // SAFETY:
        // - The memory comes from the pinned pool: `Pending::detach` alone makes such buffers.
        // - It was owned by `self`, and no stream uses it any more.
        unsafe { Buffer::from_raw_parts(ptr, len, PinnedAlloc::new()) }
    }

    /// The memory and the record, of which empty memory is left that has been returned.
    fn take(&mut self) -> Self {
        let alloc = ArrivingAlloc::new(self.allocator().awaited.returned());
        // SAFETY:
        // - The layout is empty and the pointer aligned.
        core::mem::replace(self, unsafe { Buffer::from_raw_parts(NonNull::dangling(), 0, alloc) })
    }
}

/// Waits without blocking a thread: see [`Arriving`].
///
/// Cost of a poll: one driver call. The first poll that finds the memory pending registers the task
/// with the thread that wakes it. Dropping the buffer withdraws that.
///
/// # Errors
/// The output is the driver's error with the memory, as for [`wait`](Buffer::wait), or
/// [`Error::Taken`] if the future had returned its memory before.
///
/// ```
/// use std::{pin::pin, task::{Context, Poll, Waker}};
/// use tidelock::sim;
///
/// let device = sim::Device::default();
/// let mut arriving = device.stream(|stream, _env| {
///     let ctx = stream.ctx();
///     let out = ctx.init_zeros(ctx.alloc_pinned::<u32>(3)?.stage(&ctx))?;
///     Ok::<_, tidelock::Error>(ctx.fence(out)?.detach())
/// })??;
/// // An executor does this. The stream has ended here, so that nothing is pending.
/// let polled = pin!(&mut arriving).poll(&mut Context::from_waker(Waker::noop()));
/// let Poll::Ready(Ok(zeros)) = polled else { unreachable!() };
/// assert_eq!(zeros[..], [0; 3]);
/// # Ok::<(), tidelock::Error>(())
/// ```
impl<T, B: Backend> Future for Buffer<T, Arriving<B>> {
    type Output = Result<Buffer<T, Pinned<B>>, Rejected<Self>>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let answer = match self.is_ready() {
            Ok(false) => self.allocator().awaited.register(cx.waker()).map(|()| false),
            answer => answer,
        };
        match answer {
            Ok(false) => Poll::Pending,
            // SAFETY:
            // - The device has passed the record (H1).
            Ok(true) => Poll::Ready(Ok(unsafe { self.take().arrived("awaiting arriving memory") })),
            Err(error) => Poll::Ready(Err(Rejected::new(error, self.take()))),
        }
    }
}

impl<L: DeviceLocation, A> Ctx<'_, L, A> {
    /// Calls `f` once the stream has passed everything enqueued so far.
    ///
    /// `f` runs on the thread that wakes futures (see [`Arriving`]), and holds up what else waits
    /// for the device meanwhile: it should send a message, and must not wait for a future or
    /// another closure of the device. It gets an error if the device is broken or refuses to say
    /// whether the stream has passed. A panic of `f` ends there. `f` can enqueue nothing on this
    /// stream, because nothing of a stream is `Send`.
    ///
    /// Cost: one driver call, and none if nothing was enqueued, allocated or waited for on this
    /// stream since its latest fence or hand-over; one heap allocation. The stream gets no other
    /// operation.
    ///
    /// # Errors
    /// The driver's error, or that the thread could not be started, with `f`, which is not called
    /// then.
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use tidelock::sim;
    ///
    /// sim::Device::default().stream(|stream, _env| {
    ///     let ctx = stream.ctx().with_pool();
    ///     let (tell, told) = mpsc::channel();
    ///     let x = ctx.zeros::<u32>(1000)?;
    ///     ctx.notify(move |answer| tell.send(answer).unwrap())?;
    ///     told.recv().unwrap()?; // `x` is all zeros now
    ///     drop(x);
    ///     Ok::<(), tidelock::Error>(())
    /// })??;
    /// # Ok::<(), tidelock::Error>(())
    /// ```
    #[inline]
    pub fn notify<F: FnOnce(Result<()>) + Send + 'static>(&self, f: F) -> Result<(), Rejected<F>> {
        let record = match self.handle().shared_record() {
            Ok(record) => record,
            Err(error) => return Err(Rejected::new(error, f)),
        };
        let mut f = Some(f);
        let answer = Keeper::of(&record).watch(&record, || match f.take() {
            Some(f) => Waiter::Call(Box::new(f)),
            None => Waiter::Wake(Waker::noop().clone()),
        });
        match (answer, f) {
            (Err(error), Some(f)) => Err(Rejected::new(error, f)),
            _ => Ok(()),
        }
    }
}

impl<B: Backend> Awaited<B> {
    pub(super) fn new(record: Arc<SharedRecord<B>>) -> Self {
        Awaited { record, ticket: AtomicU64::new(0) }
    }

    /// What is left of a future that has returned its buffer.
    pub(super) fn returned(&self) -> Self {
        Awaited { record: Arc::clone(&self.record), ticket: AtomicU64::new(RETURNED) }
    }

    /// The record.
    ///
    /// # Errors
    /// [`Error::Taken`] if the future has returned its buffer.
    pub(super) fn record(&self) -> Result<&SharedRecord<B>> {
        match self.ticket.load(Ordering::Relaxed) {
            RETURNED => Err(Error::Taken { operand: "future" }),
            _ => Ok(&self.record),
        }
    }

    /// Makes the watcher wake `waker`, and no other, once the device has passed the record.
    ///
    /// # Errors
    /// As for `Watcher::watch`.
    pub(super) fn register(&self, waker: &Waker) -> Result<()> {
        let watcher = Keeper::of(&self.record);
        if let Some(ticket) = self.ticket()
            && watcher.wakes(&self.record, ticket, waker.clone())
        {
            return Ok(());
        }
        // Cloned without a lock, because it may run any code.
        let waker = waker.clone();
        let ticket = watcher.watch(&self.record, || Waiter::Wake(waker))?;
        self.ticket.store(ticket, Ordering::Relaxed);
        Ok(())
    }

    /// The ticket of the task that was registered.
    fn ticket(&self) -> Option<u64> {
        Some(self.ticket.load(Ordering::Relaxed)).filter(|ticket| !matches!(*ticket, 0 | RETURNED))
    }
}

impl<B: Backend> Drop for Awaited<B> {
    #[inline]
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket() {
            Keeper::of(&self.record).forget(&self.record, ticket);
        }
    }
}

impl PinnedPiece {
    pub(super) fn bytes(&self) -> usize {
        self.layout.size()
    }

    /// Frees the memory if `passed` proves that the device has passed `record`, which it is passed
    /// around with. Returns whether it did; otherwise the memory is leaked.
    pub(super) fn free<B: Backend>(self, record: &SharedRecord<B>, passed: Passed) -> bool {
        let is_passed = passed.covers(record);
        if is_passed {
            // SAFETY:
            // - Invariant: it comes from the pinned pool with this layout, and is freed once.
            // - The device has passed the record, before which all work on the memory lies (H1).
            unsafe { B::PINNED.dealloc(self.ptr, self.layout) }
        }
        is_passed
    }
}

// SAFETY:
// - It owns memory that any thread may give back to the pool.
unsafe impl Send for PinnedPiece {}

/// The bytes of memory of `device` that was dropped and waits for its record.
pub(crate) fn deferred_bytes<B: Backend>(device: &B::Device) -> usize {
    Keeper::<B>::existing(device).map_or(0, |watcher| watcher.waiting_bytes())
}

/// Frees memory of `device` that was dropped and whose record was passed.
pub(super) fn free_arrived<B: Backend>(device: &B::Device) {
    if let Some(watcher) = Keeper::<B>::existing(device) {
        watcher.free_passed();
    }
}

impl<B> fmt::Debug for Arriving<B> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Arriving")
    }
}
impl<B: Backend> fmt::Debug for ArrivingAlloc<B> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArrivingAlloc").finish_non_exhaustive()
    }
}
