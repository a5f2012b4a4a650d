//! Memory with several owners, on one stream or on many: read by all of them, and exclusive again
//! once one is left.

use core::{alloc::Layout, fmt, mem::ManuallyDrop, ops::RangeBounds, ptr::NonNull};
use std::sync::Arc;

use tidelock_driver::Backend;

use super::{
    Ctx, StreamAlloc,
    crossing::{self, Attaches, Crosses},
    detached::{Detached, DetachedAlloc},
    location::{DeviceLocation, OnBackend, Staged},
    shared_memory::{SharedMemory, Source},
};
use crate::{
    PlainBytes,
    alloc::Allocator,
    buffer::{Buffer, View, ViewMut, shown},
    error::OutOfRange,
    location::{AnyThread, Location, Pinned},
};

/// `len` elements of `T` in location `D`, with any number of owners.
///
/// All owners read the memory. Owners on several streams read it at the same time, and none waits
/// for another. A clone is a further owner in the same place; [`Ctx::transfer`], [`Ctx::detach`] and
/// [`Ctx::attach`] take an owner to another stream or thread. Once one owner is left, it may
/// [write](Shared::get_mut), or [become a buffer again](Shared::try_unwrap).
///
/// Dropping an owner never waits. What it owned counts as in use until its stream has passed what is
/// enqueued now. Where the owners of two streams meet again on one of them,
/// [`join`](Shared::join) ends that use at once. Forgetting an owner leaks the memory.
///
/// Size: four words, and one allocation for all owners together.
///
/// ```
/// use tidelock::sim;
///
/// let device = sim::Device::default();
/// device.stream(|main, _env| {
///     device.stream(|side, _env| {
///         let (ctx, aux) = (main.ctx().with_pool(), side.ctx().with_pool());
///         let mut ids = ctx.upload_new(&[1_u32, 2, 3])?.share();
///         let theirs = ctx.transfer(ids.clone(), &aux)?; // one record, one wait
///         let mask = aux.init_from(aux.alloc(3)?, theirs.view())?;
///         let copy = ctx.init_from(ctx.alloc(3)?, ids.view())?; // does not wait for `aux`
///         ids.join(aux.transfer(theirs, &ctx)?).expect("owners of one memory");
///         ctx.clear(ids.get_mut().expect("the only owner"))?;
///         drop((mask, copy));
///         Ok::<(), tidelock::Error>(())
///     })?
/// })??;
/// # Ok::<(), tidelock::Error>(())
/// ```
pub struct Shared<T, D: SharedPlace> {
    /// Invariants:
    /// 1. `len` elements of `T` at `ptr`, in memory that `memory` keeps; or there are no bytes.
    /// 2. While `memory` has several owners, the elements are only read. An owner on a stream is
    ///    given up when the stream has passed its last use (`SharedPlace::let_go`).
    ptr: NonNull<T>,
    len: usize,
    memory: ManuallyDrop<Arc<SharedMemory<D::Family>>>,
    place: ManuallyDrop<D::Handle>,
}

impl<T, D: SharedPlace, X: Allocator<D>> Buffer<T, D, X> {
    /// The buffer as memory with several owners, of which this returns the first.
    ///
    /// Memory of a default allocator can be shared: that of a stream's pool, pinned, staged and
    /// detached memory. That of an arena cannot, because the arena would hand it out again (rule
    /// R17). Cost: one heap allocation.
    #[inline]
    #[must_use]
    pub fn share(self) -> Shared<T, D>
    where
        X: ShareAlloc<D>,
    {
        let (ptr, len, alloc) = self.into_raw_parts();
        // The layout exists, because the buffer does.
        let layout = Layout::array::<T>(len).unwrap_or(Layout::new::<T>());
        let (source, place) = alloc.source(layout);
        Shared::new(ptr, len, source, place)
    }
}

impl<D: SharedPlace> Shared<u8, D> {
    /// The same owner, of the elements that [`erased`](Shared::erased) took their type from.
    ///
    /// # Safety
    /// - The bytes are those of elements of `T`.
    pub(crate) unsafe fn of_elements<T: PlainBytes>(self) -> Shared<T, D> {
        let len = self.len.checked_div(size_of::<T>()).unwrap_or(0);
        let ptr = self.ptr.cast();
        let (place, memory) = self.into_parts();
        Shared::of_parts(ptr, len, memory, place)
    }
}

impl<T, D: SharedPlace> Shared<T, D> {
    /// How many elements there are.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A view of the elements, to read.
    #[inline]
    #[must_use]
    pub fn view(&self) -> View<'_, T, D> {
        // SAFETY:
        // - Invariants 1 and 2: the elements are not written while this owner is borrowed, and the
        //   memory lives until the stream of this owner has passed its last use.
        unsafe { View::from_raw_parts(self.ptr, self.len) }
    }

    /// A further owner, of the elements in `range`. Cost: a bounds check and an atomic increment.
    ///
    /// # Errors
    /// [`OutOfRange`] if they do not all exist.
    #[inline]
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Result<Self, OutOfRange> {
        let part = self.view().slice(range)?;
        let ptr = NonNull::new(part.as_ptr().cast_mut()).unwrap_or(NonNull::dangling());
        Ok(self.owner_of(ptr, part.len()))
    }

    /// Ends the use of `other`, an owner of the same memory in the same location. Cost: none.
    ///
    /// What `other` was used for on a stream is ordered before what this owner is used for from now
    /// on, because both belong to that stream. A detached owner leaves its record behind, as if it
    /// were dropped.
    ///
    /// # Errors
    /// `other`, if it owns other memory.
    #[inline]
    pub fn join(&mut self, other: Self) -> Result<(), Self> {
        if !Arc::ptr_eq(&self.memory, &other.memory) {
            return Err(other);
        }
        let (place, memory) = other.into_parts();
        D::joins(place, memory);
        Ok(())
    }

    /// The elements to write, if this is the only owner. Never waits. Memory of another program, which
    /// may have owners there, is never written.
    ///
    /// Owners that were dropped on another stream count until that stream is seen to have passed
    /// their last use.
    ///
    /// Cost: none if there is one owner. If there are several, a search in the stream's list of
    /// deferred frees. If detached owners were dropped, up to one driver call for each stream that
    /// they came from.
    #[inline]
    #[must_use]
    pub fn get_mut(&mut self) -> Option<ViewMut<'_, T, D>> {
        let is_only_owner = self.memory.is_writable() && D::is_only_owner(&self.place, &mut self.memory);
        is_only_owner.then(|| {
            // SAFETY:
            // - Invariant 1. There is no other owner, and this one is borrowed exclusively.
            // - Other streams have passed their last use, or this stream is behind it
            //   (`is_only_owner`).
            unsafe { ViewMut::from_raw_parts(self.ptr, self.len) }
        })
    }

    /// The address of the first element, in the location's own address space.
    #[inline]
    #[must_use]
    pub const fn as_ptr(&self) -> *const T {
        self.ptr.as_ptr()
    }

    fn of_parts(ptr: NonNull<T>, len: usize, memory: Arc<SharedMemory<D::Family>>, place: D::Handle) -> Self {
        Shared { ptr, len, memory: ManuallyDrop::new(memory), place: ManuallyDrop::new(place) }
    }

    /// A further owner, of a part.
    fn owner_of(&self, ptr: NonNull<T>, len: usize) -> Self {
        Shared::of_parts(ptr, len, Arc::clone(&self.memory), D::Handle::clone(&self.place))
    }

    pub(super) fn new(ptr: NonNull<T>, len: usize, source: Source<D::Family>, place: D::Handle) -> Self {
        let bytes = len.wrapping_mul(size_of::<T>());
        let source = source.of_bytes(bytes);
        let memory = Arc::new(SharedMemory::new(ptr.cast(), bytes, source));
        Shared::of_parts(ptr, len, memory, place)
    }

    /// The same owner, of the bytes of the elements.
    pub(crate) fn erased(self) -> Shared<u8, D>
    where
        T: PlainBytes,
    {
        let (ptr, len) = (self.ptr.cast(), self.len.wrapping_mul(size_of::<T>()));
        let (place, memory) = self.into_parts();
        Shared::of_parts(ptr, len, memory, place)
    }

    /// The same owner in another place.
    pub(super) fn moved<E: SharedPlace<Family = D::Family>>(self, place: E::Handle) -> Shared<T, E> {
        let (ptr, len) = (self.ptr, self.len);
        Shared::of_parts(ptr, len, self.into_memory(), place)
    }

    /// The memory, without its place.
    fn into_memory(self) -> Arc<SharedMemory<D::Family>> {
        self.into_parts().1
    }

    /// The place and the memory. The caller gives up the owner, or moves it.
    fn into_parts(self) -> (D::Handle, Arc<SharedMemory<D::Family>>) {
        let mut this = ManuallyDrop::new(self);
        // SAFETY:
        // - `this` is neither dropped nor used again.
        let place = unsafe { ManuallyDrop::take(&mut this.place) };
        // SAFETY:
        // - As above.
        (place, unsafe { ManuallyDrop::take(&mut this.memory) })
    }
}

impl<T, L: DeviceLocation> Shared<T, L> {
    /// The buffer again, if this is the only owner, and owns all elements. Never waits.
    ///
    /// Cost: as for [`get_mut`](Shared::get_mut).
    ///
    /// # Errors
    /// `self`, if there are other owners, if it is a [part](Shared::slice), or if the memory comes
    /// from elsewhere ([`from_raw`](Shared::from_raw)).
    #[inline]
    pub fn try_unwrap(mut self) -> Result<Buffer<T, L>, Self> {
        let handle = *self.place;
        let bytes = self.len.wrapping_mul(size_of::<T>());
        if !L::is_only_owner(&handle, &mut self.memory) {
            return Err(self);
        }
        let start = self.ptr.cast();
        if !Arc::get_mut(&mut self.memory).is_some_and(|memory| memory.takes_whole(start, bytes)) {
            return Err(self);
        }
        let (ptr, len) = (self.ptr, self.len);
        drop(self.into_memory());
        // SAFETY:
        // - The memory comes from `alloc` of a stream of the device, with this layout, and
        //   `takes_whole` has taken it from the only owner: nothing else frees it (M5).
        // - Every element is a `T`, in the order of this stream.
        Ok(unsafe { Buffer::from_raw_parts(ptr, len, StreamAlloc(handle)) })
    }
}

impl<T, B: Backend> Shared<T, Pinned<B>> {
    /// This owner as memory that operations of the stream of `ctx` may read. Other owners stay
    /// where they are, so that the host may read the elements meanwhile. Cost: two moves.
    #[inline]
    #[must_use]
    pub fn stage<L, A>(self, ctx: &Ctx<'_, L, A>) -> Shared<T, Staged<L>>
    where
        L: DeviceLocation + OnBackend<Backend = B>,
    {
        self.moved(ctx.handle())
    }
}

/// A location whose memory can be shared: that of a stream, staged, detached and pinned memory.
/// Sealed.
#[diagnostic::on_unimplemented(
    message = "memory in `{Self}` cannot be shared",
    label = "expected a stream's own memory, or staged, detached or pinned memory",
    note = "plain host memory is shared as `Arc<Buffer<T, Host>>`"
)]
pub trait SharedPlace: Location {
    /// The family of devices.
    type Family: Backend;
    /// What an owner in this place has beside the memory.
    #[doc(hidden)]
    type Handle: Clone;
    /// Gives up an owner. The memory is freed after the last use of every owner.
    #[doc(hidden)]
    fn let_go(handle: Self::Handle, memory: Arc<SharedMemory<Self::Family>>);
    /// Gives up an owner, while another owner in the same location continues its use.
    #[doc(hidden)]
    fn joins(handle: Self::Handle, memory: Arc<SharedMemory<Self::Family>>);
    /// Whether there is no other owner, and all work of former owners has been passed or lies before
    /// what this place enqueues from now on.
    #[doc(hidden)]
    fn is_only_owner(handle: &Self::Handle, memory: &mut Arc<SharedMemory<Self::Family>>) -> bool;
}

/// An allocator whose memory in `D` can be shared: the default allocator of `D`. Sealed.
#[diagnostic::on_unimplemented(
    message = "memory of `{Self}` has one owner, and cannot be shared",
    label = "expected memory of a default allocator, such as that of `ctx.with_pool()`",
    note = "an arena hands its memory out again when it is reset: `lend` a view of it, or allocate what is shared with `ctx.with_pool()`"
)]
pub trait ShareAlloc<D: SharedPlace>: Allocator<D> + sealed::SealedShareAlloc<D> {
    /// Where the memory of a buffer comes from, and the handle of its first owner.
    #[doc(hidden)]
    fn source(self, layout: Layout) -> (Source<D::Family>, D::Handle);
}

impl<T, L: DeviceLocation> crossing::sealed::SealedCrosses<L> for Shared<T, L> {}
impl<T, B: Backend> crossing::sealed::SealedAttaches<B> for Shared<T, Detached<B>> {}

impl<T, L: DeviceLocation> Crosses<L> for Shared<T, L> {
    type Detached = Shared<T, Detached<L::Backend>>;

    #[inline]
    unsafe fn leave(self, base: DetachedAlloc<L::Backend>) -> Self::Detached {
        self.moved(base)
    }
}

impl<T, B: Backend> Attaches<B> for Shared<T, Detached<B>> {
    type On<M: DeviceLocation + OnBackend<Backend = B>> = Shared<T, M>;

    #[inline]
    fn base(&self) -> &DetachedAlloc<B> {
        &self.place
    }

    #[inline]
    unsafe fn arrive<M: DeviceLocation + OnBackend<Backend = B>>(self, base: StreamAlloc<M>) -> Shared<T, M> {
        self.moved(base.0)
    }
}

impl<T, D: SharedPlace> Clone for Shared<T, D> {
    /// A further owner, in the same place. Cost: an atomic increment; two for detached memory.
    #[inline]
    fn clone(&self) -> Self {
        self.owner_of(self.ptr, self.len)
    }
}

impl<T, D: SharedPlace> Drop for Shared<T, D> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY:
        // - `self` is not used after this.
        let memory = unsafe { ManuallyDrop::take(&mut self.memory) };
        // SAFETY:
        // - As above.
        let place = unsafe { ManuallyDrop::take(&mut self.place) };
        D::let_go(place, memory);
    }
}

impl<T, D: SharedPlace> fmt::Debug for Shared<T, D> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown::memory::<T, D>(f, "Shared")?;
        f.debug_struct("").field("len", &self.len).finish()
    }
}

// SAFETY:
// - The memory and its place are tied to no thread. Owners on several threads read the elements, and
//   the last one may write them.
// - Two places are `AnyThread`. The handle of `Detached` is a `DetachedAlloc`, which is `Send` and
//   `Sync` (`device/checks.rs`), and that of `Pinned` is `()`.
unsafe impl<T: Send + Sync, D: SharedPlace + AnyThread> Send for Shared<T, D> {}
// SAFETY:
// - A shared reference gives access to read, and to further owners.
unsafe impl<T: Send + Sync, D: SharedPlace + AnyThread> Sync for Shared<T, D> {}

/// The seal of `ShareAlloc`, with the parameter of the trait.
pub(super) mod sealed {
    /// Implemented for default allocators.
    #[diagnostic::on_unimplemented(
        message = "`ShareAlloc` is sealed, and memory of `{Self}` cannot be shared",
        label = "not the default allocator of `{D}`",
        note = "memory of another allocator is shared as memory from elsewhere: `Shared::from_raw`, whose owner is the buffer"
    )]
    pub trait SealedShareAlloc<D> {}
}
