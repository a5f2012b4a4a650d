//! Pinned memory by value: staged for a stream, read while the stream is known to be idle, and
//! taken back.

use core::{
    fmt,
    pin::Pin,
    ptr::NonNull,
    task::{self, Poll},
};

use tidelock_driver::{Backend, HostAccess};

use super::{
    Ctx, StagedAlloc, Synced,
    arriving::{Arriving, ArrivingAlloc, Awaited},
    location::{DeviceLocation, SameBackend, Staged},
};
use crate::{
    alloc::{Allocator, PinnedAlloc},
    buffer::{Buffer, shown},
    error::{Rejected, Result},
    location::{AnyThread, Location, Pinned},
};

impl<T, D: Location, X: Allocator<D>> Buffer<T, D, X> {
    /// Stages the memory for the stream of `ctx`. Operations of the stream may use it then, and the
    /// host may not.
    ///
    /// Only memory of the default pinned allocator can be staged, because its free can be deferred
    /// and that of an arena cannot (rule R3). Cost: three moves.
    #[inline]
    #[must_use]
    pub fn stage<L: DeviceLocation, A>(self, ctx: &Ctx<'_, L, A>) -> Buffer<T, Staged<L>>
    where
        Self: Stageable<L>,
    {
        let (ptr, len, _) = self.into_raw_parts();
        // SAFETY:
        // - The memory comes from the pinned pool of the stream's backend (`Self: Stageable<L>`),
        //   to which `StagedAlloc` returns it.
        // - It was owned by `self`, and every element is a `T`.
        unsafe { Buffer::from_raw_parts(ptr, len, StagedAlloc(ctx.handle())) }
    }
}

impl<T, L: DeviceLocation> Buffer<T, Staged<L>> {
    /// Takes the memory back from the stream, which is known to be idle. Cost: two moves.
    #[inline]
    #[must_use]
    pub fn reclaim(self, _: &Synced<'_, L>) -> Buffer<T, Pinned<L::Backend>> {
        // SAFETY:
        // - `Synced` proves that the stream has passed everything enqueued (H1). Nothing more can
        //   be enqueued on the memory, which is moved here.
        unsafe { self.unstage("reclaim") }
    }

    /// The elements, while the stream is known to be idle. Cost: none.
    ///
    /// They stay borrowed for as long as the stream and the buffer are, and may outlive the proof.
    /// So a method of an object that owns both can return them:
    ///
    /// ```
    /// use tidelock::{Buffer, DeviceLocation, Result, Stream, sim, stream::Staged};
    ///
    /// struct Engine<L: DeviceLocation> {
    ///     stream: Stream<L>,
    ///     out: Buffer<u32, Staged<L>>,
    /// }
    ///
    /// impl<L: DeviceLocation> Engine<L> {
    ///     fn tokens(&mut self) -> Result<&[u32]> {
    ///         let done = self.stream.synchronize()?;
    ///         Ok(self.out.peek(&done))
    ///     }
    /// }
    ///
    /// sim::Device::default().stream(|stream, _env| {
    ///     let out = stream.ctx().init_zeros(stream.ctx().alloc_pinned(2)?.stage(&stream.ctx()))?;
    ///     let mut engine = Engine { stream, out };
    ///     assert_eq!(engine.tokens()?, [0, 0]);
    ///     Ok::<_, tidelock::Error>(())
    /// })??;
    /// # Ok::<(), tidelock::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn peek<'a>(&'a self, _: &Synced<'a, L>) -> &'a [T] {
        let len = self.len();
        // SAFETY:
        // - P4: the elements belong to `self`, which is borrowed, and `Synced` proves that the
        //   stream was waited for (H1).
        unsafe { Pinned::<L::Backend>::host_touches(HostAccess::read(self.as_ptr().cast(), self.byte_len(), "peek")) };
        // SAFETY:
        // - Staged memory is host memory (P1). The elements are `T` and visible, because the stream
        //   has passed everything enqueued (H1).
        // - `Synced<'a, L>` borrows the stream exclusively for `'a`, also after it is dropped. So
        //   there is no context during `'a`, and only frees, allocations and waits can be enqueued.
        //   They write no memory that a buffer owns, and this buffer is borrowed. So the elements
        //   are not written during `'a`.
        unsafe { core::slice::from_raw_parts(self.as_ptr(), len) }
    }

    /// As [`peek`](Buffer::peek), mutably. Cost: none.
    #[inline]
    #[must_use]
    pub fn peek_mut<'a>(&'a mut self, _: &Synced<'a, L>) -> &'a mut [T] {
        let len = self.len();
        // SAFETY:
        // - As in `peek`. The buffer is borrowed exclusively.
        unsafe {
            Pinned::<L::Backend>::host_touches(HostAccess::write(self.as_ptr().cast(), self.byte_len(), "peek_mut"))
        };
        // SAFETY:
        // - As in `peek`. The buffer is borrowed exclusively, so that nothing else uses it during
        //   `'a`.
        unsafe { core::slice::from_raw_parts_mut(self.as_mut_ptr(), len) }
    }

    /// Converts the memory to pinned memory. `how` names the operation in a race report.
    ///
    /// # Safety
    /// - The stream has passed everything that was enqueued on the memory, and nothing more is
    ///   enqueued on it.
    #[inline]
    unsafe fn unstage(self, how: &'static str) -> Buffer<T, Pinned<L::Backend>> {
        // SAFETY:
        // - P4: the elements belong to `self`, and the caller promises that the stream has passed
        //   all work on them.
        unsafe { Pinned::<L::Backend>::host_touches(HostAccess::write(self.as_ptr().cast(), self.byte_len(), how)) };
        let (ptr, len, _): (NonNull<T>, usize, StagedAlloc<L>) = self.into_raw_parts();
        // SAFETY:
        // - The memory comes from the pinned pool of the backend: `stage` accepts no other.
        // - It was owned by `self`, and the stream does not use it any more.
        unsafe { Buffer::from_raw_parts(ptr, len, PinnedAlloc::new()) }
    }
}

impl<L: DeviceLocation, A> Ctx<'_, L, A> {
    /// Takes `buffer` out of the stream behind everything enqueued so far.
    ///
    /// Later work cannot use it: [`Pending::wait`] returns it while the stream continues. Buffers
    /// that are fenced without work in between share one record and one wait, in any struct or
    /// `Vec`.
    ///
    /// Cost: one driver call, and none if nothing was enqueued, allocated or waited for on this
    /// stream since its latest fence or hand-over. A stream opens with eight events. Each is used
    /// again once all that share its record were waited for or dropped. When all are in use, the
    /// next operation that needs one creates eight.
    ///
    /// # Errors
    /// The driver's error, with the buffer, which is still staged.
    #[inline]
    pub fn fence<T>(&self, buffer: Buffer<T, Staged<L>>) -> Result<Pending<T, L>, Rejected<Buffer<T, Staged<L>>>> {
        match self.handle().shared_record() {
            Ok(record) => Ok(Pending { buffer, awaited: Awaited::new(record) }),
            Err(error) => Err(Rejected::new(error, buffer)),
        }
    }
}

/// A buffer that is being copied back to the host.
///
/// It is also a future, for an executor that runs inside the closure of the stream. A task of
/// another thread gets it [detached](Pending::detach).
///
/// Dropping it drops the buffer: its free is deferred until the stream is seen to have passed.
#[must_use = "the buffer comes back through `wait` or `await`"]
pub struct Pending<T, L: DeviceLocation> {
    buffer: Buffer<T, Staged<L>>,
    awaited: Awaited<L::Backend>,
}

impl<T, L: DeviceLocation> Pending<T, L> {
    /// Waits until the stream has passed the fence, and returns the buffer as pinned memory.
    ///
    /// Cost: one driver call, which blocks the calling thread; none if the stream was seen to have
    /// passed the fence. It does not wait for work behind the fence.
    ///
    /// # Errors
    /// The driver's error, with `self`, so that the wait can be tried again.
    #[inline]
    pub fn wait(self) -> Result<Buffer<T, Pinned<L::Backend>>, Rejected<Self>> {
        let answer = self.awaited.record().and_then(|record| self.state().wait_for_record(record.at()));
        if let Err(error) = answer {
            return Err(Rejected::new(error, self));
        }
        // SAFETY:
        // - The stream has passed the fence (H1), and no later work could use the buffer.
        Ok(unsafe { self.buffer.unstage("Pending::wait") })
    }

    /// Whether [`wait`](Pending::wait) would return at once. Cost: one driver call; none if the
    /// stream was seen to have passed the fence.
    ///
    /// # Errors
    /// The driver's error.
    #[inline]
    pub fn is_ready(&self) -> Result<bool> {
        self.state().query_record(self.awaited.record()?.at())
    }

    /// Takes the buffer off the stream, so that any thread may wait for it. Cost: moves, no driver
    /// call and no heap allocation.
    ///
    /// ```
    /// use tidelock::sim;
    ///
    /// let device = sim::Device::default();
    /// let arriving = device.stream(|stream, _env| {
    ///     let ctx = stream.ctx().with_pool();
    ///     let x = ctx.upload_new(&[1_u32, 2, 3])?;
    ///     let out = ctx.init_from(ctx.alloc_pinned(3)?.stage(&ctx), x.view())?;
    ///     Ok::<_, tidelock::Error>(ctx.fence(out)?.detach())
    /// })??;
    /// let reply = std::thread::spawn(|| Ok::<_, tidelock::Error>(arriving.wait()?.to_vec()));
    /// assert_eq!(reply.join().unwrap()?, [1, 2, 3]);
    /// # Ok::<(), tidelock::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn detach(self) -> Buffer<T, Arriving<L::Backend>> {
        let Pending { buffer, awaited } = self;
        let (ptr, len, _): (NonNull<T>, usize, StagedAlloc<L>) = buffer.into_raw_parts();
        // SAFETY:
        // - The memory comes from the pinned pool of the backend: `stage` accepts no other.
        //   `ArrivingAlloc` returns it there, behind the record.
        // - It was owned by `buffer`, and all work on it lies before the record: `fence` took it out
        //   of the stream. Every element is a `T` once the stream has passed the record.
        unsafe { Buffer::from_raw_parts(ptr, len, ArrivingAlloc::new(awaited)) }
    }

    /// The state of the stream, which made the record.
    fn state(&self) -> L::Handle {
        self.buffer.allocator().0
    }

    /// The buffer and the record, of which an empty buffer is left that has been returned.
    fn take(&mut self) -> Self {
        // SAFETY:
        // - The layout is empty and the pointer aligned.
        let buffer = unsafe { Buffer::from_raw_parts(NonNull::dangling(), 0, StagedAlloc(self.state())) };
        core::mem::replace(self, Pending { buffer, awaited: self.awaited.returned() })
    }
}

/// Waits without blocking a thread: a thread of the library wakes the task.
///
/// Cost of a poll: one driver call; none if the stream was seen to have passed the fence. The first
/// poll that finds it pending registers the task with the thread, and starts it if need be. See
/// [`Arriving`] for when it wakes.
///
/// # Errors
/// The output is the driver's error with the buffer, as for [`Pending::wait`], or
/// [`Error::Taken`](crate::Error::Taken) if the future had returned its buffer before.
impl<T, L: DeviceLocation> Future for Pending<T, L> {
    type Output = Result<Buffer<T, Pinned<L::Backend>>, Rejected<Self>>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let answer = match self.is_ready() {
            Ok(false) => self.awaited.register(cx.waker()).map(|()| false),
            answer => answer,
        };
        match answer {
            Ok(false) => Poll::Pending,
            // SAFETY:
            // - The stream has passed the fence (H1), and no later work could use the buffer.
            Ok(true) => Poll::Ready(Ok(unsafe { self.take().buffer.unstage("awaiting a Pending") })),
            Err(error) => Poll::Ready(Err(Rejected::new(error, self.take()))),
        }
    }
}

// Nothing in it is pinned.
impl<T, L: DeviceLocation> Unpin for Pending<T, L> {}

// SAFETY:
// - No device location is `AnyThread`, so that this applies to no type. It makes the compiler give
//   its reason.
unsafe impl<T, L: DeviceLocation + AnyThread> Send for Pending<T, L> {}
// SAFETY:
// - As above.
unsafe impl<T, L: DeviceLocation + AnyThread> Sync for Pending<T, L> {}

impl<T, L: DeviceLocation> fmt::Debug for Pending<T, L> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown::memory::<T, Staged<L>>(f, "Pending")?;
        f.debug_struct("").field("len", &self.buffer.len()).finish()
    }
}

/// A buffer that can be staged for stream `L`: pinned memory of its backend, from the default
/// allocator. Sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be staged for stream `{L}`",
    label = "expected pinned memory of the default allocator, `Buffer<T, L::Pinned>`",
    note = "allocate it with `ctx.alloc_pinned::<T>(len)`; an arena would hand the memory out again before the stream is done with it",
    note = "where the context has another pinned allocator, or is generic: `ctx.plain().alloc_pinned::<T>(len)?.stage(&ctx)`",
    note = "plain host memory goes up with `ctx.upload(&slice, destination)`; staged and device memory are the stream's already",
    note = "arriving memory comes back to the host first: `arriving.wait()?.stage(&ctx)`"
)]
pub trait Stageable<L: DeviceLocation>: sealed::SealedStageable<L> {}

// The bound is on the backend of the stream, so that rustc checks it when it has the stream.
impl<T, B: Backend, L: DeviceLocation> Stageable<L> for Buffer<T, Pinned<B>> where L::Backend: SameBackend<B> {}

/// The seal of `Stageable`, with the parameter of the trait.
mod sealed {
    use super::{Backend, Buffer, DeviceLocation, Pinned, SameBackend};

    /// Implemented for pinned memory of the backend of `L`, from the default allocator.
    #[diagnostic::on_unimplemented(
        message = "`Stageable` is sealed, and `{Self}` cannot be staged for stream `{L}`",
        label = "not pinned memory of the default allocator",
        note = "a struct of your own is staged buffer by buffer: `self.tokens.stage(&ctx)`"
    )]
    pub trait SealedStageable<L> {}
    impl<T, B: Backend, L: DeviceLocation> SealedStageable<L> for Buffer<T, Pinned<B>> where L::Backend: SameBackend<B> {}
}
