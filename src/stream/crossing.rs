//! Memory that changes streams: detached from a stream, attached to a stream, or transferred from
//! one to another.

use core::ptr::NonNull;

use tidelock_driver::Backend;

use super::{
    Ctx, StreamAlloc,
    detached::{Detached, DetachedAlloc},
    location::{DeviceLocation, OnBackend},
};
use crate::{
    alloc::Allocator,
    buffer::Buffer,
    error::{Rejected, Result},
};

impl<L: DeviceLocation, A> Ctx<'_, L, A> {
    /// Takes `memory` off the stream, behind everything enqueued so far. It belongs to no stream
    /// then, may go to another thread, and may outlive the stream.
    ///
    /// Any number of buffers that are detached without work in between share one record, so that
    /// they cost one driver call together. Buffers of an arena cannot be detached, because the arena
    /// would hand out their memory again (rule R3).
    ///
    /// Cost: one driver call, and none if nothing was enqueued, allocated or waited for on this
    /// stream since its latest hand-over or [`fence`](Ctx::fence).
    ///
    /// # Errors
    /// The driver's error, with the memory.
    ///
    /// ```
    /// use tidelock::sim;
    ///
    /// let device = sim::Device::default();
    /// let layers = device.stream(|stream, _env| {
    ///     let ctx = stream.ctx().with_pool();
    ///     let layers = [ctx.upload_new(&[1_u32, 2])?, ctx.upload_new(&[3, 4])?];
    ///     layers.into_iter().map(|layer| Ok(ctx.detach(layer)?)).collect::<tidelock::Result<Vec<_>>>()
    /// })??;
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| {
    ///         device.stream(|stream, _env| {
    ///             let ctx = stream.ctx();
    ///             for layer in layers {
    ///                 assert_eq!(ctx.attach(layer)?.len(), 2); // one wait for both
    ///             }
    ///             Ok::<(), tidelock::Error>(())
    ///         })
    ///     }).join().unwrap()
    /// })??;
    /// # Ok::<(), tidelock::Error>(())
    /// ```
    #[inline]
    pub fn detach<G: Crosses<L>>(&self, memory: G) -> Result<G::Detached, Rejected<G>> {
        match self.handle().shared_record() {
            // SAFETY:
            // - The memory belongs to the stream, so that all work on it lies before the record, and
            //   none can be enqueued on it while it is detached.
            Ok(record) => Ok(unsafe { memory.leave(DetachedAlloc::new(record)) }),
            Err(error) => Err(Rejected::new(error, memory)),
        }
    }

    /// Makes detached memory the memory of this stream. The stream waits for the last use; the host
    /// does not.
    ///
    /// Cost: one driver call, and none if this stream has waited for the same record, or for a later
    /// one of the same stream, or is the stream that the memory left.
    ///
    /// # Errors
    /// [`Error::OtherDevice`](crate::Error::OtherDevice), or the driver's error, with the memory.
    #[inline]
    pub fn attach<G: Attaches<L::Backend>>(&self, memory: G) -> Result<G::On<L>, Rejected<G>> {
        match self.handle().follow(memory.base().record(), "memory") {
            // SAFETY:
            // - What this stream enqueues from now on runs behind the record (E3), before which all
            //   work on the memory lies.
            Ok(()) => Ok(unsafe { memory.arrive(StreamAlloc(self.handle())) }),
            Err(error) => Err(Rejected::new(error, memory)),
        }
    }

    /// Transfers `memory` to the stream of `to`. That stream waits, on the device, for what this
    /// stream has enqueued so far.
    ///
    /// Cost: two driver calls, a record and a wait. Buffers that are transferred to one stream
    /// without work in between cost two calls together.
    ///
    /// # Errors
    /// [`Error::OtherDevice`](crate::Error::OtherDevice), or the driver's error, with the memory.
    /// Nothing has changed then.
    #[inline]
    pub fn transfer<G, M, X>(&self, memory: G, to: &Ctx<'_, M, X>) -> Result<Transferred<G, L, M>, Rejected<G>>
    where
        G: Crosses<L>,
        M: DeviceLocation + OnBackend<Backend = L::Backend>,
    {
        match self.handle().hand_over(&to.handle()) {
            Ok(record) => {
                // SAFETY:
                // - As in `detach`.
                let detached = unsafe { memory.leave(DetachedAlloc::new(record)) };
                // SAFETY:
                // - As in `attach`: `hand_over` has made the stream of `to` wait for the record.
                Ok(unsafe { detached.arrive(StreamAlloc(to.handle())) })
            }
            Err(error) => Err(Rejected::new(error, memory)),
        }
    }
}

/// What [`Ctx::transfer`] makes of memory `G` of stream `L`: the same memory on stream `M`.
pub type Transferred<G, L, M> = <<G as Crosses<L>>::Detached as Attaches<<L as OnBackend>::Backend>>::On<M>;

/// Memory of stream `L` that can leave the stream: a [`Buffer`] whose allocator is a [`CrossAlloc`],
/// or a [`Shared`](super::Shared). Sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot leave stream `{L}`",
    label = "expected a buffer of this stream whose allocator can change streams",
    note = "memory of an arena stays with its stream: allocate what is to leave from the pool, with `ctx.with_pool()`, or copy it into such a buffer",
    note = "memory of another stream leaves with a context of that stream",
    note = "a view cannot leave: pass the buffer by value, or `lend` the view to the other stream",
    note = "staged and pinned memory goes back to the host by `ctx.fence(staged)?.wait()?`, and from there to any stream"
)]
pub trait Crosses<L: DeviceLocation>: sealed::SealedCrosses<L> + Sized {
    /// The memory while it belongs to no stream.
    type Detached: Attaches<L::Backend>;
    /// Converts the memory, which keeps its record in `base`.
    ///
    /// # Safety
    /// - All work on the memory lies before the record of `base`.
    #[doc(hidden)]
    unsafe fn leave(self, base: DetachedAlloc<L::Backend>) -> Self::Detached;
}

/// Memory of no stream, which a stream of backend `B` can attach. Sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be attached to a stream of `{B}`",
    label = "expected detached memory, such as `Buffer<T, Detached<{B}>>`",
    note = "memory of another stream is detached there first, or handed over by `theirs.transfer(buffer, &ctx)`"
)]
pub trait Attaches<B: Backend>: sealed::SealedAttaches<B> + Sized {
    /// The memory on stream `M`.
    type On<M: DeviceLocation + OnBackend<Backend = B>>;
    /// The record behind the last use.
    #[doc(hidden)]
    fn base(&self) -> &DetachedAlloc<B>;
    /// Converts the memory.
    ///
    /// # Safety
    /// - What the stream of `base` enqueues from now on runs behind the record.
    #[doc(hidden)]
    unsafe fn arrive<M: DeviceLocation + OnBackend<Backend = B>>(self, base: StreamAlloc<M>) -> Self::On<M>;
}

/// An allocator of stream `L` whose memory can leave the stream. Unsafe to implement.
///
/// [`StreamAlloc`] is one. An adaptor around one is another: it converts what it wraps, and carries
/// its own state along. An arena is none.
///
/// # Safety
/// The implementation promises:
/// - Its memory comes from `alloc` of a [`StreamAlloc`] of `L`, with the layout that it was asked
///   for, and its `dealloc` passes the memory to `dealloc` of that allocator.
/// - The allocator that [`detach`](CrossAlloc::detach) returns frees the memory by `base`, with the
///   same layout.
/// - None of its methods panics.
#[diagnostic::on_unimplemented(
    message = "memory of `{Self}` stays with its stream `{L}`",
    label = "this allocator cannot change streams",
    note = "memory of an arena stays with its stream: allocate what is to leave from the pool, with `ctx.with_pool()`, or copy it into such a buffer",
    note = "an adaptor around `StreamAlloc` implements `stream::CrossAlloc` and `stream::AttachAlloc`, which are unsafe"
)]
pub unsafe trait CrossAlloc<L: DeviceLocation>: Allocator<L> + Sized {
    /// The allocator of the memory while it belongs to no stream.
    type Detached: AttachAlloc<L::Backend>;
    /// Converts the allocator of one buffer.
    fn detach(self, base: DetachedAlloc<L::Backend>) -> Self::Detached;
}

/// An allocator of memory of no stream, which a stream of backend `B` can attach. Unsafe to
/// implement.
///
/// # Safety
/// The implementation promises:
/// - [`base`](AttachAlloc::base) returns what [`CrossAlloc::detach`] got.
/// - Its `dealloc` passes the memory to that base.
/// - The allocator that [`attach`](AttachAlloc::attach) returns frees the memory by `base`, with the
///   same layout.
/// - None of its methods panics.
pub unsafe trait AttachAlloc<B: Backend>: Allocator<Detached<B>> + Sized {
    /// The allocator of the memory on stream `M`.
    type On<M: DeviceLocation + OnBackend<Backend = B>>: Allocator<M>;
    /// The allocator that this one wraps, or itself.
    fn base(&self) -> &DetachedAlloc<B>;
    /// Converts the allocator of one buffer.
    fn attach<M: DeviceLocation + OnBackend<Backend = B>>(self, base: StreamAlloc<M>) -> Self::On<M>;
}

impl<T, L: DeviceLocation, X: CrossAlloc<L>> Crosses<L> for Buffer<T, L, X> {
    type Detached = Buffer<T, Detached<L::Backend>, X::Detached>;

    #[inline]
    unsafe fn leave(self, base: DetachedAlloc<L::Backend>) -> Self::Detached {
        let (ptr, len, alloc): (NonNull<T>, _, _) = self.into_raw_parts();
        // SAFETY:
        // - The memory comes from a stream-ordered allocator of the device, and `detach` returns an
        //   allocator that frees it by `base` (`CrossAlloc`).
        // - It was owned by `self`. Every element is a `T` at the record of `base`: the caller
        //   promises that all work lies before it.
        unsafe { Buffer::from_raw_parts(ptr, len, alloc.detach(base)) }
    }
}

impl<T, B: Backend, X: AttachAlloc<B>> Attaches<B> for Buffer<T, Detached<B>, X> {
    type On<M: DeviceLocation + OnBackend<Backend = B>> = Buffer<T, M, X::On<M>>;

    #[inline]
    fn base(&self) -> &DetachedAlloc<B> {
        self.allocator().base()
    }

    #[inline]
    unsafe fn arrive<M: DeviceLocation + OnBackend<Backend = B>>(self, base: StreamAlloc<M>) -> Self::On<M> {
        let (ptr, len, alloc): (NonNull<T>, _, _) = self.into_raw_parts();
        // SAFETY:
        // - Any stream of the device may free memory of `alloc` (M5), and `attach` returns an
        //   allocator that frees it by `base` (`AttachAlloc`).
        // - It was owned by `self`. Work that the stream enqueues from now on runs behind the
        //   record, at which every element is a `T`: the caller promises it.
        unsafe { Buffer::from_raw_parts(ptr, len, alloc.attach(base)) }
    }
}

// SAFETY:
// - It is the stream-ordered allocator itself. A handle is a reference, and moving it does nothing.
unsafe impl<L: DeviceLocation> CrossAlloc<L> for StreamAlloc<L> {
    type Detached = DetachedAlloc<L::Backend>;

    #[inline]
    fn detach(self, base: DetachedAlloc<L::Backend>) -> DetachedAlloc<L::Backend> {
        base
    }
}

// SAFETY:
// - It is the base itself.
unsafe impl<B: Backend> AttachAlloc<B> for DetachedAlloc<B> {
    type On<M: DeviceLocation + OnBackend<Backend = B>> = StreamAlloc<M>;

    #[inline]
    fn base(&self) -> &DetachedAlloc<B> {
        self
    }

    #[inline]
    fn attach<M: DeviceLocation + OnBackend<Backend = B>>(self, base: StreamAlloc<M>) -> StreamAlloc<M> {
        base
    }
}

/// The seals of `Crosses` and `Attaches`, each with the parameter of its trait.
pub(super) mod sealed {
    use super::{AttachAlloc, Backend, Buffer, CrossAlloc, Detached, DeviceLocation};

    /// Implemented for memory of stream `L` whose allocator can change streams.
    #[diagnostic::on_unimplemented(
        message = "`Crosses` is sealed, and `{Self}` cannot leave stream `{L}`",
        label = "not a buffer of this stream whose allocator can change streams",
        note = "memory of an arena stays with its stream: allocate what is to leave from the pool, with `ctx.with_pool()`",
        note = "a struct of your own crosses field by field: buffers that cross without work in between share one record and one wait"
    )]
    pub trait SealedCrosses<L> {}
    impl<T, L: DeviceLocation, X: CrossAlloc<L>> SealedCrosses<L> for Buffer<T, L, X> {}

    /// Implemented for memory of no stream.
    #[diagnostic::on_unimplemented(
        message = "`Attaches` is sealed, and `{Self}` is not detached memory of `{B}`",
        label = "not detached memory",
        note = "a struct of your own is attached field by field: buffers that were detached together share one wait"
    )]
    pub trait SealedAttaches<B> {}
    impl<T, B: Backend, X: AttachAlloc<B>> SealedAttaches<B> for Buffer<T, Detached<B>, X> {}
}
