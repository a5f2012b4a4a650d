//! The process-wide pool of page-locked memory.
//!
//! Page-locking is slow (1.2 ms for 1 MiB on an H200's host, 2026-11-21) and may wait for a device,
//! so memory is locked in blocks, cut into pieces, and kept.

use core::{alloc::Layout, fmt, marker::PhantomData, num::NonZero, ptr::NonNull};

use crate::{
    alloc_error::AllocError,
    backend::{Backend, HostAccess},
    blocks::{BLOCK, Block, Blocks, MIN_PIECE, Size},
    code::Code,
    error::Result,
    sync::{self, Mutex, MutexGuard},
};

/// The page-locked memory of a process, for backend `B`.
///
/// A request of up to 1 MiB is rounded up to a power of two, 256 bytes at least, and a larger one
/// by a sixteenth at most. What is given back is kept for the next request that it fits, to a
/// factor of two if it is large. Large blocks that no request fits are given back to the system
/// when another one is locked, so that at most as much lies idle as was ever in use at one time;
/// all else that is unused, by [`trim`](PinnedPool::trim), or when nothing more can be locked.
///
/// A pool that is dropped gives back what is unused; the backend's own, a static, never is.
pub struct PinnedPool<B: Backend> {
    blocks: Mutex<Blocks>,
    backend: PhantomData<fn() -> B>,
}

/// What a pinned pool holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PinnedUsage {
    /// Page-locked bytes.
    pub reserved: usize,
    /// Bytes of them that are handed out, rounded up as the pool rounds them.
    pub used: usize,
}

impl<B: Backend> PinnedPool<B> {
    /// An empty pool.
    #[inline]
    #[must_use]
    pub const fn new() -> Self {
        PinnedPool { blocks: Mutex::new(Blocks::new()), backend: PhantomData }
    }

    /// What the pool holds now.
    #[inline]
    #[must_use]
    pub fn usage(&self) -> PinnedUsage {
        let blocks = self.lock();
        PinnedUsage { reserved: blocks.reserved(), used: blocks.used() }
    }

    /// Locks memory ahead: requests that take `bytes` bytes together, each rounded up as the pool
    /// rounds it, find it locked.
    ///
    /// They may be of any size and come from any thread; what is given back meanwhile serves others
    /// besides. For an engine that must not lock memory while it runs, because the driver may wait
    /// for the device then.
    ///
    /// Cost: one driver call, or none if so much is locked and untouched, or lies in one block that
    /// is wholly unused.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory) if the system does not lock so much, else
    /// what the driver answered.
    ///
    /// ```
    /// # use tidelock_driver::{Backend, Result};
    /// # fn of<B: Backend>() -> Result<()> {
    /// let pool = B::PINNED;
    /// pool.reserve(8 << 20)?;
    /// assert!(pool.usage().reserved >= 8 << 20);
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn reserve(&self, bytes: usize) -> Result<()> {
        let mut blocks = self.lock();
        if bytes <= blocks.untouched() || (blocks.expect_block().is_some() && blocks.start_again(bytes)) {
            return Ok(());
        }
        let whole = bytes.checked_add(MIN_PIECE).and_then(|bytes| bytes.checked_next_multiple_of(BLOCK));
        let locked = whole.ok_or(AllocError::OutOfMemory).and_then(|bytes| self.grow(&mut blocks, bytes, false));
        locked.map_err(|error| error.explained(LOCATION, bytes, || None))
    }

    /// Gives blocks that are wholly unused back to the system until at most `bytes_to_keep` bytes
    /// are locked.
    ///
    /// Cost: one driver call a block.
    ///
    /// # Errors
    /// What the driver answered; the block stays locked then, counts as used, and serves no request
    /// any more.
    #[inline]
    pub fn trim(&self, bytes_to_keep: usize) -> Result<()> {
        let mut blocks = self.lock();
        while blocks.reserved() > bytes_to_keep {
            let Some(block) = blocks.take_unused() else { break };
            self.unpin(&mut blocks, block)?;
        }
        Ok(())
    }

    /// Takes a piece of at least `layout.size()` bytes, aligned to [`ALIGN`](crate::ALIGN). Cost:
    /// no driver call, unless no locked memory is left for it.
    ///
    /// It is exclusively the caller's until [`dealloc`](PinnedPool::dealloc). Pieces of two blocks
    /// are never adjacent.
    ///
    /// # Errors
    /// [`AllocError`]; nothing has changed then.
    #[doc(hidden)]
    #[inline]
    pub fn alloc(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        let Some(size) = piece(layout)? else { return Ok(layout.dangling_ptr()) };
        let mut blocks = self.lock();
        if let Some(piece) = blocks.take(size) {
            return Ok(piece);
        }
        let (bytes, is_own) = size.block().ok_or(AllocError::OutOfMemory)?;
        self.grow(&mut blocks, bytes, is_own)?;
        blocks.take(size).ok_or(AllocError::OutOfMemory)
    }

    /// As [`alloc`](PinnedPool::alloc), if that needs no driver call.
    #[doc(hidden)]
    #[inline]
    #[must_use]
    pub fn alloc_locked(&self, layout: Layout) -> Option<NonNull<u8>> {
        match piece(layout).ok()? {
            Some(size) => self.lock().take(size),
            None => Some(layout.dangling_ptr()),
        }
    }

    /// Takes back a piece.
    ///
    /// # Safety
    /// - `ptr` comes from `alloc(layout)` of this pool and was not given back before.
    /// - Neither the host nor a device uses it any more.
    #[doc(hidden)]
    #[inline]
    pub unsafe fn dealloc(&self, ptr: NonNull<u8>, layout: Layout) {
        let Some(size) = Size::of(layout.size()) else { return };
        if layout.size() != 0 {
            // SAFETY:
            // - The caller gives the piece up, and promises that nobody uses it any more.
            unsafe {
                B::host_touches(HostAccess::write(ptr.as_ptr(), layout.size(), "giving memory back to the pinned pool"))
            };
            self.lock().give_back(size, ptr);
        }
    }

    /// Locks one more block of `bytes` bytes.
    #[cold]
    fn grow(&self, blocks: &mut Blocks, bytes: usize, is_own: bool) -> Result<(), AllocError> {
        let size = NonZero::new(bytes).ok_or(AllocError::OutOfMemory)?;
        blocks.expect_block().ok_or(AllocError::OutOfMemory)?;
        if is_own {
            while let Some(block) = blocks.take_surplus(bytes) {
                // One that the driver keeps is not looked at again.
                let _ = self.unpin(blocks, block);
            }
        }
        let base = match B::pin(size) {
            // What lies unused in other sizes goes first.
            Err(error) if error.code == Code::OUT_OF_MEMORY && self.give_all_back(blocks) => B::pin(size)?,
            answer => answer?,
        };
        blocks.add(base, bytes, is_own);
        Ok(())
    }

    /// Gives all blocks back that are unused; whether there was one.
    fn give_all_back(&self, blocks: &mut Blocks) -> bool {
        let mut any = false;
        while let Some(block) = blocks.take_unused() {
            any |= self.unpin(blocks, block).is_ok();
        }
        any
    }

    /// Gives a block back that was taken out of the pool; one that the driver keeps is used up.
    fn unpin(&self, blocks: &mut Blocks, block: Block) -> Result<()> {
        // SAFETY:
        // - `base` comes from `pin` and left the pool, so that it is given back once.
        // - No piece of the block is handed out: its `used` is 0, and pieces come back to `dealloc`
        //   only when nobody uses them any more.
        if let Err(error) = unsafe { B::unpin(block.base.0) } {
            blocks.keep_used_up(block);
            return Err(error.into());
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Blocks> {
        sync::lock(&self.blocks)
    }
}

/// What messages call page-locked memory.
const LOCATION: &str = "pinned";

/// The size of the piece for `layout`; `None` if it takes no bytes.
fn piece(layout: Layout) -> Result<Option<Size>, AllocError> {
    if layout.size() == 0 {
        return Ok(None);
    }
    if layout.align() > MIN_PIECE {
        return Err(AllocError::alignment(layout));
    }
    Size::of(layout.size()).map(Some).ok_or(AllocError::OutOfMemory)
}

impl<B: Backend> Default for PinnedPool<B> {
    #[inline]
    fn default() -> Self {
        PinnedPool::new()
    }
}

impl<B: Backend> Drop for PinnedPool<B> {
    #[inline]
    fn drop(&mut self) {
        self.give_all_back(&mut self.lock());
    }
}

impl<B: Backend> fmt::Debug for PinnedPool<B> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinnedPool").finish_non_exhaustive()
    }
}
