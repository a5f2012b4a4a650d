//! Allocators that belong to one stream: its pool, the synchronous one, and the one of staged
//! memory.

use core::{alloc::Layout, fmt, num::NonZero, ptr::NonNull};

use tidelock_driver::{ALIGN, AllocError};

use super::{
    DeferredFree,
    location::{DeviceLocation, Lent, Staged},
};
use crate::{alloc::Allocator, error::Shortage, location::AnyThread};

/// The absence of a device allocator: what a fresh context has.
///
/// Asking such a context for device memory does not compile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoDeviceAlloc;

/// The stream-ordered pool of stream `L`: one driver call to allocate, one to free, neither waits.
///
/// It is the default allocator of device memory. The pool keeps what is freed until
/// [`Stream::trim`](crate::Stream::trim), or until an allocation of this stream finds no memory:
/// then the deferred frees of an idle stream are carried out, the pool is trimmed, and the
/// allocation is made again; then the pools of the device's other open streams are. Only with
/// [`StreamOptions::wait_for_memory`](crate::stream::StreamOptions::wait_for_memory) is the stream
/// waited for, and others never are.
///
/// On a CUDA device without memory pools it allocates as [`SyncAlloc`] does, and frees when that
/// does.
pub struct StreamAlloc<L: DeviceLocation>(pub(crate) L::Handle);

/// Device memory of stream `L` that is allocated at once, outside of any pool.
///
/// The driver may wait for the device when it allocates. A free is deferred until the stream is
/// seen to have passed it, because the driver is not relied upon to wait. For memory that lives as
/// long as the engine, such as a KV cache. If there is no memory, the same is tried as by
/// [`StreamAlloc`].
pub struct SyncAlloc<L: DeviceLocation>(pub(crate) L::Handle);

/// Pinned memory that stream `L` may be touching: given back only when the stream is seen to have
/// passed its last use.
pub struct StagedAlloc<L: DeviceLocation>(pub(crate) L::Handle);

// SAFETY:
// - The memory is exclusively the caller's in stream order (M1, M3), with as many bytes as were
//   asked for, aligned to `ALIGN` (M2); larger alignments are refused.
// - One byte more than asked for is taken, so that no two allocations are adjacent (M4).
// - The free is stream-ordered (M5), or deferred until the stream has passed it (M8). The handle is
//   a reference to the stream's state, which outlives every buffer of the brand.
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
        // - `ptr` comes from `alloc` above, whose memory is the queue's, and was not given back
        //   before.
        // - All work that uses it was enqueued on this queue: the brand of the buffer proves it.
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
// - One byte more than asked for is taken, so that no two allocations are adjacent (M4).
// - The free is deferred until the stream has passed it (M7).
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
        // - `ptr` comes from `alloc` above, is not used by the host any more, and no more work that
        //   uses it is enqueued.
        unsafe { self.0.defer_free(DeferredFree::device(ptr, layout)) }
    }

    #[inline]
    fn shortage(&self) -> Option<Shortage> {
        self.0.shortage()
    }
}

// SAFETY:
// - The backend's pinned pool hands out memory that is exclusively the caller's, aligned, and never
//   adjacent to a piece of another block. That is where `stage` takes memory from too, so that both
//   go back by one way.
// - The free is deferred until the stream has passed it; the stream's state outlives every buffer
//   of the brand.
unsafe impl<L: DeviceLocation> Allocator<Staged<L>> for StagedAlloc<L> {
    #[inline]
    fn alloc(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        self.0.pinned(layout)
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: NonNull<u8>, layout: Layout) {
        // SAFETY:
        // - `ptr` comes from the pinned pool, is not used by the host any more, and no more work
        //   that uses it is enqueued.
        unsafe { self.0.defer_free(DeferredFree::pinned(ptr, layout)) }
    }

    #[inline]
    fn shortage(&self) -> Option<Shortage> {
        self.0.pinned_shortage()
    }
}

/// One byte more than `layout` asks for.
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
        // - No device location is `AnyThread`: there are no such handles. It is here for the
        //   compiler's message.
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

/// Lent memory is never allocated: this type has no values.
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
