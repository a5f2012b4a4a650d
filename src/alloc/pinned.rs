//! The allocator of page-locked memory: a handle of the backend's pool.

use core::{alloc::Layout, fmt, marker::PhantomData, ptr::NonNull};

use tidelock_driver::{AllocError, Backend};

use super::Allocator;
use crate::location::Pinned;

/// The default allocator of pinned memory: the process-wide pool of backend `B`.
pub struct PinnedAlloc<B>(PhantomData<B>);

// SAFETY:
// - A piece is exclusively the caller's (P1): it leaves a free list or the undivided tail, and
//   comes back by `dealloc` only.
// - Pieces are aligned to `MIN_PIECE`, which is at most `ALIGN` (P2); larger alignments are
//   refused. They live until `dealloc`: the pool unpins a block only if no piece of it is used.
// - Pieces of one block are ranges of one driver allocation. The last bytes of a block are never
//   handed out, so that pieces of two blocks are never adjacent (P2).
unsafe impl<B: Backend> Allocator<Pinned<B>> for PinnedAlloc<B> {
    #[inline]
    fn alloc(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        B::PINNED.alloc(layout)
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: NonNull<u8>, layout: Layout) {
        // SAFETY:
        // - `ptr` comes from `alloc(layout)` above, and is freed once. No device uses pinned memory
        //   before it is staged (P3).
        unsafe { B::PINNED.dealloc(ptr, layout) }
    }
}

impl<B> PinnedAlloc<B> {
    /// The handle.
    #[inline]
    #[must_use]
    pub const fn new() -> Self {
        PinnedAlloc(PhantomData)
    }
}
impl<B> Default for PinnedAlloc<B> {
    #[inline]
    fn default() -> Self {
        PinnedAlloc::new()
    }
}
impl<B> Clone for PinnedAlloc<B> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}
impl<B> Copy for PinnedAlloc<B> {}
impl<B> fmt::Debug for PinnedAlloc<B> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PinnedAlloc")
    }
}
