//! The context: the shared capability to allocate and to enqueue on a stream.

use core::{alloc::Layout, fmt, marker::PhantomData, mem::MaybeUninit};

use tidelock_driver::{RawDevice, RawStream};

use super::{
    AllocHandle, AllocOf, Allocators, HasAlloc, NoDeviceAlloc, StreamAlloc, SyncAlloc, WithHost, WithPinned,
    in_location::at,
    location::{DeviceLocation, KernelAccessible, OnBackend, OnStream},
};
use crate::{
    Element,
    alloc::Allocator,
    buffer::{Buffer, Counter, Dst, View},
    error::{Error, Rejected, Result},
    location::{AnyThread, Host, Location, Pinned},
};

/// The shared capability on stream `L`: enqueue work, and allocate from allocators `A`. Where they
/// are one handle, device memory comes from it, and host and pinned memory by default; see
/// [`with_host_alloc`](Ctx::with_host_alloc) and [`with_pinned_alloc`](Ctx::with_pinned_alloc).
///
/// It is `Copy`. It borrows the [`Stream`](super::Stream), so that no context is alive while a
/// [`Synced`](super::Synced) is. It is passed explicitly: the signature of a function that takes
/// `&Ctx<'_, L, A>` says that it enqueues, and `A` says where it allocates. Everything is enqueued
/// in stream order and runs later.
pub struct Ctx<'c, L: DeviceLocation, A = NoDeviceAlloc> {
    handle: L::Handle,
    allocs: A,
    /// Neither `Send` nor `Sync`, and invariant in the brand.
    brand: PhantomData<(&'c (), L, *const ())>,
}

impl<'c, L: DeviceLocation> Ctx<'c, L> {
    #[inline]
    pub(crate) fn new(handle: L::Handle) -> Self {
        // Defaults take no room.
        const { assert!(size_of::<Self>() == size_of::<usize>()) };
        Ctx { handle, allocs: NoDeviceAlloc, brand: PhantomData }
    }
}

/// The allocators.
impl<'c, L: DeviceLocation, A: Copy> Ctx<'c, L, A> {
    /// The same stream, with nothing replaced: no device allocator, and the defaults of host and
    /// pinned memory, as [`Stream::ctx`](super::Stream::ctx) returns it. Cost: one move.
    ///
    /// A function that takes a `&Ctx<'_, L>` is called with it from one that has an arena.
    #[inline]
    #[must_use]
    pub fn plain(self) -> Ctx<'c, L> {
        Ctx::new(self.handle)
    }

    /// The same stream, with its own pool as the allocator of device memory, and the defaults of
    /// host and pinned memory. Cost: two moves.
    ///
    /// To keep what is replaced, call `ctx.with_device_alloc(ctx.pool())`.
    #[inline]
    #[must_use]
    pub fn with_pool(self) -> Ctx<'c, L, StreamAlloc<L>> {
        self.with(self.pool())
    }

    /// The same context, with `alloc` as the allocator of device memory, such as a
    /// `&`[`Stack`](crate::Stack). Cost: two moves.
    #[inline]
    #[must_use]
    pub fn with_device_alloc<X: Allocator<L> + AllocHandle>(
        self,
        alloc: X,
    ) -> Ctx<'c, L, <at!(X, A) as Allocators>::WithDevice<L, X>>
    where
        at!(X, A): Allocators,
    {
        self.with(self.allocs.with_device(alloc))
    }

    /// The same context, with `alloc` as the allocator of host memory, such as a
    /// `&`[`Stack`](crate::Stack)`<Host>`. Cost: two moves.
    ///
    /// [`alloc_host`](Ctx::alloc_host), [`alloc_in`](Ctx::alloc_in) and
    /// [`empty_like`](Ctx::empty_like) use it, in every function that is generic over the allocators
    /// of its context. The last allocator that was given is used.
    ///
    /// ```
    /// use tidelock::{Stack, alloc::HostAlloc, location::Host, sim};
    ///
    /// sim::Device::default().stream(|stream, _env| {
    ///     let scratch: Stack<Host> = Stack::new(HostAlloc);
    ///     let ctx = stream.ctx().with_host_alloc(&scratch);
    ///     let numbers = ctx.alloc_host::<u32>(8)?; // lives no longer than `scratch`
    ///     assert_eq!(numbers.len(), 8);
    ///     Ok::<_, tidelock::Error>(())
    /// })??;
    /// # Ok::<(), tidelock::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn with_host_alloc<H: Allocator<Host> + Copy>(self, alloc: H) -> Ctx<'c, L, WithHost<A, H>> {
        self.with(WithHost::new(self.allocs, alloc))
    }

    /// The same context, with `alloc` as the allocator of pinned memory, such as a
    /// `&`[`Stack`](crate::Stack)`<Pinned<..>>`. Cost: two moves.
    ///
    /// [`alloc_pinned`](Ctx::alloc_pinned), [`alloc_in`](Ctx::alloc_in) and
    /// [`empty_like`](Ctx::empty_like) use it. The memory is for the host, and for copies in
    /// [`host_scope`](super::Stream::host_scope): only memory of the default allocator can be
    /// [staged](Buffer::stage), because the free of another cannot be deferred (rule R3).
    #[inline]
    #[must_use]
    pub fn with_pinned_alloc<P: Allocator<Pinned<L::Backend>> + Copy>(self, alloc: P) -> Ctx<'c, L, WithPinned<A, P>> {
        self.with(WithPinned::new(self.allocs, alloc))
    }

    #[inline]
    fn with<X>(self, allocs: X) -> Ctx<'c, L, X> {
        Ctx { handle: self.handle, allocs, brand: PhantomData }
    }

    /// The stream-ordered pool of the stream.
    #[inline]
    #[must_use]
    pub fn pool(self) -> StreamAlloc<L> {
        StreamAlloc(self.handle)
    }

    /// The synchronous allocator of the stream's device. Its frees are deferred until this stream
    /// has passed them.
    #[inline]
    #[must_use]
    pub fn sync_alloc(self) -> SyncAlloc<L> {
        SyncAlloc(self.handle)
    }
}

/// Allocation.
impl<L: DeviceLocation, A: Copy> Ctx<'_, L, A> {
    /// `len` uninitialised elements in `D`.
    ///
    /// # Errors
    /// As for [`Buffer::uninit_in`].
    #[inline]
    pub fn alloc_in<T: Element, D: Location>(
        self,
        len: usize,
    ) -> Result<Buffer<MaybeUninit<T>, D, AllocOf<at!(T, A), D>>>
    where
        at!(T, A): HasAlloc<D>,
    {
        Buffer::uninit_in(len, self.allocs.handle())
    }

    /// `len` uninitialised elements on the device.
    ///
    /// # Errors
    /// As for [`Buffer::uninit_in`].
    #[inline]
    pub fn alloc<T: Element>(self, len: usize) -> Result<Buffer<MaybeUninit<T>, L, AllocOf<at!(T, A), at!(T, L)>>>
    where
        at!(T, A): HasAlloc<at!(T, L)>,
    {
        self.alloc_in(len)
    }

    /// `len` uninitialised elements in plain host memory.
    ///
    /// # Errors
    /// As for [`Buffer::uninit_in`].
    #[inline]
    pub fn alloc_host<T: Element>(
        self,
        len: usize,
    ) -> Result<Buffer<MaybeUninit<T>, Host, AllocOf<at!(T, A), at!(T, Host)>>>
    where
        at!(T, A): HasAlloc<at!(T, Host)>,
    {
        self.alloc_in(len)
    }

    /// `len` uninitialised elements in page-locked memory.
    ///
    /// Before the process-wide pool, the default allocator, locks more memory, the deferred frees
    /// of this stream are carried out if it is idle. That costs one driver call.
    ///
    /// # Errors
    /// As for [`Buffer::uninit_in`].
    #[inline]
    pub fn alloc_pinned<T: Element>(
        self,
        len: usize,
    ) -> Result<Buffer<MaybeUninit<T>, <L as OnBackend>::Pinned, AllocOf<at!(T, A), at!(T, Pinned<L::Backend>)>>>
    where
        at!(T, A): HasAlloc<at!(T, Pinned<L::Backend>)>,
    {
        let alloc = HasAlloc::<Pinned<L::Backend>>::handle(self.allocs);
        if !A::LOCKS_THROUGH_STREAM {
            return Buffer::uninit_in(len, alloc);
        }
        let Ok(layout) = Layout::array::<T>(len) else {
            return Err(Error::TooLarge { operand: Pinned::<L::Backend>::NAME });
        };
        let ptr = match layout.size() {
            0 => layout.dangling_ptr(),
            _ => self.handle.pinned(layout).map_err(|error| self.handle.pinned_refused(error, layout))?,
        };
        // SAFETY:
        // - `ptr` is fresh from the pinned pool (P1), to which `alloc` returns it, with the layout
        //   of `[T; len]`: `LOCKS_THROUGH_STREAM`, of a sealed trait, says that it is a
        //   `PinnedAlloc`. Or `ptr` dangles, with an empty layout.
        // - Uninitialised memory is a `MaybeUninit<T>`.
        Ok(unsafe { Buffer::from_raw_parts(ptr.cast(), len, alloc) })
    }

    /// `len` zeros on the device. Cost: an allocation and one driver call.
    ///
    /// # Errors
    /// As for [`Buffer::uninit_in`], or the driver's error for the fill.
    #[inline]
    pub fn zeros<T: Element>(self, len: usize) -> Result<Buffer<T, L, AllocOf<at!(T, A), at!(T, L)>>>
    where
        at!(T, A): HasAlloc<at!(T, L)>,
    {
        Ok(self.init_zeros(self.alloc(len)?)?)
    }

    /// A copy of a host slice on the device, as [`upload`](Ctx::upload) makes one. Cost: an
    /// allocation and an upload.
    ///
    /// # Errors
    /// As for [`Buffer::uninit_in`] and for [`upload`](Ctx::upload).
    #[inline]
    pub fn upload_new<T: Element>(self, src: &[T]) -> Result<Buffer<T, L, AllocOf<at!(T, A), at!(T, L)>>>
    where
        at!(T, A): HasAlloc<at!(T, L)>,
    {
        let mut buffer = self.alloc(src.len())?;
        self.upload(src, buffer.view_mut())?;
        // SAFETY:
        // - Every element is written once the stream has passed the upload.
        Ok(unsafe { buffer.assume_init() })
    }

    /// As many uninitialised elements as `like` has, of the same type and in the same location.
    ///
    /// For another element `U` or location `E`, call `ctx.alloc_in::<U, E>(like.len())`.
    ///
    /// # Errors
    /// As for [`Buffer::uninit_in`].
    #[inline]
    pub fn empty_like<T: Element, D: Location>(
        self,
        like: View<'_, T, D>,
    ) -> Result<Buffer<MaybeUninit<T>, D, AllocOf<at!(T, A), D>>>
    where
        at!(T, A): HasAlloc<D>,
    {
        self.alloc_in(like.len())
    }
}

/// Enqueuing.
impl<L: DeviceLocation, A> Ctx<'_, L, A> {
    /// Copies `src` to `dst`, in stream order. Cost: one driver call; none for no elements.
    ///
    /// # Errors
    /// [`Error::Length`] if the lengths differ, or the driver's error. Nothing is enqueued then.
    #[inline]
    pub fn copy<'d, T: Element, S: OnStream<L>, D: OnStream<L>>(
        &self,
        src: View<'_, T, S>,
        dst: impl Dst<'d, T, D>,
    ) -> Result<()> {
        let counter = dst.counter();
        let (ptr, len) = dst.into_parts();
        if len != src.len() {
            return Err(Error::Length { operand: "dst", expected: src.len(), found: len });
        }
        // SAFETY:
        // - C1, C2: `src` is valid until the stream has passed the copy, and lies in one
        //   allocation. Its memory belongs to this stream or is lent to it, so that it is freed and
        //   reused in stream order (M5) or after the stream was seen to have passed (H1).
        // - C1 to C3: `dst` likewise. It is borrowed exclusively, so that the two do not overlap.
        // - C4: conflicting accesses by the host or by other streams are ordered before. The types
        //   of the locations prove it.
        let answer = unsafe { self.handle.copy(ptr.as_ptr().cast(), src.as_ptr().cast(), src.byte_len()) };
        counted(answer, counter, len)
    }

    /// Copies the elements of a host slice to `dst`, in stream order. The slice is read before the
    /// call returns.
    ///
    /// The elements pass through a ring of pinned memory
    /// ([`StreamOptions::ring_bytes`](super::StreamOptions::ring_bytes)); a full ring waits for its
    /// oldest quarter. A slice larger than a quarter of the ring is split into pieces of a quarter,
    /// in whole elements, so that an upload of any size locks no more memory than the ring. An
    /// element larger than a quarter passes through a piece of the pinned pool.
    ///
    /// Cost: a copy by the CPU, and one driver call for each piece. A piece that goes to the next
    /// quarter takes a second call, and a third if the ring is full.
    ///
    /// # Errors
    /// [`Error::Length`] if the lengths differ: nothing is enqueued then. [`Error::OutOfMemory`] if
    /// no memory can be pinned, or the driver's error. Then nothing is enqueued of a slice of up to
    /// a quarter of the ring. Of a larger slice, a prefix of whole elements may be enqueued, and
    /// the elements behind it keep their values.
    #[inline]
    pub fn upload<'d, T: Element, D: OnStream<L>>(&self, src: &[T], dst: impl Dst<'d, T, D>) -> Result<()> {
        let counter = dst.counter();
        let (ptr, len) = dst.into_parts();
        if len != src.len() {
            return Err(Error::Length { operand: "dst", expected: src.len(), found: len });
        }
        // The cast fails only for zero-sized elements.
        let bytes = bytemuck::try_cast_slice(src).unwrap_or(&[]);
        // SAFETY:
        // - C1 to C4 for `dst`, as in `copy`: it is exclusively borrowed, and has room for `bytes`.
        let answer = unsafe { self.handle.upload(ptr.as_ptr().cast(), bytes, size_of::<T>()) };
        counted(answer, counter, len)
    }

    /// Writes zeros to `dst`, in stream order. Lent memory cannot be a destination, because drivers
    /// fill only memory that kernels can use (O4). Cost: one driver call; none for no elements.
    ///
    /// # Errors
    /// The driver's error. Nothing is enqueued then.
    #[inline]
    pub fn clear<'d, T: Element, D: KernelAccessible<L>>(&self, dst: impl Dst<'d, T, D>) -> Result<()> {
        let counter = dst.counter();
        let (ptr, len) = dst.into_parts();
        // SAFETY:
        // - C1, C2 and C4 for `dst`, as in `copy`.
        // - Zeroed bytes are a value of `T`, which is `Zeroable`. The layout of `[T; len]` exists,
        //   so that the product does not wrap.
        let answer = unsafe { self.handle.fill(ptr.as_ptr().cast(), 0, len.wrapping_mul(size_of::<T>())) };
        counted(answer, counter, len)
    }

    /// Initialises a buffer with zeros. Cost: one driver call.
    ///
    /// # Errors
    /// The driver's error, with the buffer.
    #[inline]
    pub fn init_zeros<T: Element, D: KernelAccessible<L>, X: Allocator<D>>(
        &self,
        mut buffer: Buffer<MaybeUninit<T>, D, X>,
    ) -> Result<Buffer<T, D, X>, Rejected<Buffer<MaybeUninit<T>, D, X>>> {
        match self.clear::<T, D>(buffer.view_mut()) {
            // SAFETY:
            // - Every element is written by the fill that was just enqueued.
            Ok(()) => Ok(unsafe { buffer.assume_init() }),
            Err(error) => Err(Rejected::new(error, buffer)),
        }
    }

    /// Initialises a buffer with a copy of `src`. Cost: one driver call.
    ///
    /// # Errors
    /// As for [`copy`](Ctx::copy), with the buffer.
    #[inline]
    pub fn init_from<T: Element, S: OnStream<L>, D: OnStream<L>, X: Allocator<D>>(
        &self,
        mut buffer: Buffer<MaybeUninit<T>, D, X>,
        src: View<'_, T, S>,
    ) -> Result<Buffer<T, D, X>, Rejected<Buffer<MaybeUninit<T>, D, X>>> {
        match self.copy(src, buffer.view_mut()) {
            // SAFETY:
            // - Every element is written by the copy that was just enqueued: the lengths are equal.
            Ok(()) => Ok(unsafe { buffer.assume_init() }),
            Err(error) => Err(Rejected::new(error, buffer)),
        }
    }

    /// The ordinal of the stream's device, for messages; it is not the device's identity.
    #[inline]
    #[must_use]
    pub fn device_ordinal(&self) -> usize {
        self.handle.ordinal()
    }

    /// Free and total bytes of the device's memory. Cost: one driver call.
    ///
    /// # Errors
    /// The driver's error.
    #[inline]
    pub fn memory_info(&self) -> Result<(usize, usize)> {
        self.handle.with_raw(|raw| raw.device().memory_info())
    }

    /// The allocators.
    #[inline]
    pub(crate) fn device_alloc(&self) -> AllocOf<A, L>
    where
        A: HasAlloc<L>,
    {
        self.allocs.handle()
    }

    #[inline]
    pub(super) fn allocs(&self) -> A
    where
        A: Copy,
    {
        self.allocs
    }

    /// The stream's state.
    #[inline]
    pub(crate) fn handle(&self) -> L::Handle {
        self.handle
    }
}

/// Counts `len` elements of an output as written, if the write was enqueued.
#[inline]
pub(super) fn counted(answer: Result<()>, counter: Option<&Counter>, len: usize) -> Result<()> {
    if let (Ok(()), Some(counter)) = (answer, counter) {
        counter.add(len);
    }
    answer
}

// SAFETY:
// - No device location is `AnyThread`, so that this applies to no type. It makes the compiler give
//   its reason.
unsafe impl<L: DeviceLocation + AnyThread, A> Send for Ctx<'_, L, A> {}
// SAFETY:
// - As above.
unsafe impl<L: DeviceLocation + AnyThread, A> Sync for Ctx<'_, L, A> {}

impl<L: DeviceLocation, A: Copy> Clone for Ctx<'_, L, A> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}
impl<L: DeviceLocation, A: Copy> Copy for Ctx<'_, L, A> {}

impl<L: DeviceLocation, A> fmt::Debug for Ctx<'_, L, A> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ctx<{}>", L::NAME)?;
        f.debug_struct("").field("device", &self.device_ordinal()).finish_non_exhaustive()
    }
}
