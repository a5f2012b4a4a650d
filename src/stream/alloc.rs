//! The allocators that belong to one stream: its pool, the synchronous allocator, and the allocator
//! of staged memory.

use core::{alloc::Layout, fmt, num::NonZero, ptr::NonNull};

use tidelock_driver::{ALIGN, AllocError};

use super::{
    DeferredFree,
    location::{DeviceLocation, Lent, Staged},
};
use crate::{alloc::Allocator, error::Shortage, location::AnyThread};

/// No device allocator. A new context has this one.
///
/// Allocating device memory from such a context does not compile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoDeviceAlloc;

/// The stream-ordered pool of stream `L`: one driver call to allocate, one to free. Neither waits.
///
/// It is the default allocator of device memory. The pool keeps what is freed until
/// [`Stream::trim`](crate::Stream::trim), or until an allocation of this stream finds no memory.
/// Then deferred frees are carried out if the stream is idle, the pool is trimmed, and the
/// allocation is tried again; then the pools of the device's other open streams are trimmed, and it
/// is tried once more. Only with
/// [`StreamOptions::wait_for_memory`](crate::stream::StreamOptions::wait_for_memory) does it wait
/// for the stream, and it never waits for others.
///
/// On a CUDA device without memory pools it allocates and frees as [`SyncAlloc`] does.
pub struct StreamAlloc<L: DeviceLocation>(pub(crate) L::Handle);

/// Device memory of stream `L` that is allocated at once, outside of any pool.
///
/// The driver may wait for the device when it allocates. A free is deferred until the stream is
/// seen to have passed the last use, because a driver need not wait. Use it for memory that lives
/// as long as the engine, such as a KV cache. If there is no memory, it tries the same steps as
/// [`StreamAlloc`].
pub struct SyncAlloc<L: DeviceLocation>(pub(crate) L::Handle);

/// The allocator of staged memory. A free is deferred until stream `L` is seen to have passed the
/// last use.
pub struct StagedAlloc<L: DeviceLocation>(pub(crate) L::Handle);

// SAFETY:
// - The memory is exclusively the caller's in stream order (M1, M3). It has the requested bytes and
//   is aligned to `ALIGN` (M2); larger alignments are refused.
// - One byte more than requested is taken, so that no two used ranges touch (M4).
// - The free is stream-ordered (M5), or deferred until the stream has passed the last use (M8). The
//   handle is a reference to the stream's state, which outlives every buffer of the brand.
unsafe impl<L: DeviceLocation> Allocator<L> for StreamAlloc<L> {
    #[inline]
    fn alloc(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        let bytes = padded(layout)?;
        self.0.usable()?;
        self.0.alloc(bytes)
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: NonNull<u8>, layout: Layout) {
        // SAFETY:
        // - `ptr` comes from `alloc` above, of a stream of this device, and was not freed before
        //   (M5).
        // - All work that uses it was enqueued on this stream, or is ordered before: the brand of
        //   the buffer proves it.
        unsafe { self.0.free(ptr, layout.size()) }
    }

    #[inline]
    fn shortage(&self) -> Option<Shortage> {
        self.0.shortage()
    }
}

// SAFETY:
// - The memory is exclusively the caller's (M1), aligned to `ALIGN` (M2), for every stream of the
//   device (M7); larger alignments are refused.
// - One byte more than requested is taken, so that no two used ranges touch (M4).
// - The free is deferred until the stream has passed the last use (M7).
unsafe impl<L: DeviceLocation> Allocator<L> for SyncAlloc<L> {
    #[inline]
    fn alloc(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        let bytes = padded(layout)?;
        self.0.usable()?;
        self.0.alloc_now(bytes)
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: NonNull<u8>, layout: Layout) {
        // SAFETY:
        // - `ptr` comes from `alloc` above and was not freed before. No further work that uses it
        //   is enqueued, so that `free_now` may take it once the stream has passed what is enqueued
        //   now (M7).
        unsafe { self.0.defer_free(DeferredFree::device(ptr, layout)) }
    }

    #[inline]
    fn shortage(&self) -> Option<Shortage> {
        self.0.shortage()
    }
}

// SAFETY:
// - The backend's pinned pool returns memory that is exclusively the caller's (P1) and aligned, and
//   that never touches a piece of another block (P2). The memory that `stage` takes comes from the
//   same pool.
// - The free is deferred until the stream has passed the last use (H1). The stream's state outlives
//   every buffer of the brand.
unsafe impl<L: DeviceLocation> Allocator<Staged<L>> for StagedAlloc<L> {
    #[inline]
    fn alloc(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        self.0.pinned(layout)
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: NonNull<u8>, layout: Layout) {
        // SAFETY:
        // - `ptr` comes from the pinned pool and was not freed before. The host does not use it,
        //   and no further work that uses it is enqueued.
        unsafe { self.0.defer_free(DeferredFree::pinned(ptr, layout)) }
    }

    #[inline]
    fn shortage(&self) -> Option<Shortage> {
        self.0.pinned_shortage()
    }
}

/// The size of `layout` and one byte more (M4).
#[inline]
fn padded(layout: Layout) -> Result<NonZero<usize>, AllocError> {
    if layout.align() > ALIGN {
        return Err(AllocError::alignment(layout));
    }
    NonZero::<usize>::MIN.checked_add(layout.size()).ok_or(AllocError::OutOfMemory)
}

macro_rules! handle {
    ($name:ident) => {
        impl<L: DeviceLocation> Clone for $name<L> {
            #[inline]
            fn clone(&self) -> Self {
                *self
            }
        }
        impl<L: DeviceLocation> Copy for $name<L> {}
        // SAFETY:
        // - No device location is `AnyThread`, so that this applies to no type. It makes the
        //   compiler give its reason.
        unsafe impl<L: DeviceLocation + AnyThread> Send for $name<L> {}
        // SAFETY:
        // - As above.
        unsafe impl<L: DeviceLocation + AnyThread> Sync for $name<L> {}
        impl<L: DeviceLocation> fmt::Debug for $name<L> {
            #[inline]
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    };
}
handle!(StreamAlloc);
handle!(SyncAlloc);
handle!(StagedAlloc);

/// The allocator of lent memory, which is never allocated: this type has no values.
#[derive(Clone, Copy, Debug)]
pub enum NoLentAlloc {}

// SAFETY:
// - `NoLentAlloc` has no values, so neither method can be called.
#[diagnostic::do_not_recommend]
unsafe impl<L: DeviceLocation> Allocator<Lent<L>> for NoLentAlloc {
    #[inline]
    fn alloc(&self, _: Layout) -> Result<NonNull<u8>, AllocError> {
        match *self {}
    }
    #[inline]
    unsafe fn dealloc(&self, _: NonNull<u8>, _: Layout) {
        match *self {}
    }
}
