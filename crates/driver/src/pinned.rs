//! The process-wide pool of page-locked memory.
//!
//! Page-locking is slow (1.2 ms for 1 MiB on an H200's host, 2026-11-21) and may wait for a device.
//! So the pool locks memory in blocks, divides them into pieces, and keeps freed pieces.

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
/// A request of up to 1 MiB is rounded up to a power of two of at least 256 bytes. A larger request
/// is rounded up by at most a sixteenth. A freed piece is kept for the next request that fits it; a
/// large piece serves requests of at least half its size.
///
/// When the pool locks a large block, it unlocks unused large blocks as long as they have more
/// bytes than large pieces ever used at one time. [`trim`](PinnedPool::trim) unlocks unused blocks
/// of any kind, and so does a request for which no more memory can be locked.
///
/// Dropping a pool unlocks its unused blocks. The pool of a backend is a `static`, which is never
/// dropped.
pub struct PinnedPool<B: Backend> {
    blocks: Mutex<Blocks>,
    backend: PhantomData<fn() -> B>,
}

/// The bytes of a pinned pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PinnedUsage {
    /// Page-locked bytes.
    pub reserved: usize,
    /// Those of them in pieces that are in use, with rounding.
    pub used: usize,
}

impl<B: Backend> PinnedPool<B> {
    /// An empty pool.
    #[inline]
    #[must_use]
    pub const fn new() -> Self {
        PinnedPool { blocks: Mutex::new(Blocks::new()), backend: PhantomData }
    }

    /// The bytes of the pool now.
    #[inline]
    #[must_use]
    pub fn usage(&self) -> PinnedUsage {
        let blocks = self.lock();
        PinnedUsage { reserved: blocks.reserved(), used: blocks.used() }
    }

    /// Locks memory ahead, for requests that together take `bytes` bytes, each rounded up as the
    /// pool rounds it.
    ///
    /// The requests may be of any size and from any thread. Pieces that are freed meanwhile serve
    /// further requests. For an engine that must not lock memory while it runs, because the driver
    /// may wait for the device then.
    ///
    /// Cost: one driver call, or none if an undivided tail or an unused block has `bytes` bytes
    /// already.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory) if the system does not lock that much
    /// memory, or the driver's error.
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

    /// Unlocks blocks of which no piece is in use, until at most `bytes_to_keep` bytes are locked.
    ///
    /// Cost: one driver call for each block.
    ///
    /// # Errors
    /// The driver's error. The block then counts as used, and no piece of it is handed out again
    /// (P3, F2).
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
    /// no driver call if locked memory is left for it.
    ///
    /// The piece is exclusively the caller's until [`dealloc`](PinnedPool::dealloc). Pieces of two
    /// blocks are never adjacent (P2).
    ///
    /// # Errors
    /// [`AllocError`]. Nothing has changed then.
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

    /// Frees a piece.
    ///
    /// # Safety
    /// - `ptr` comes from `alloc(layout)` of this pool and was not freed before.
    /// - Neither the host nor a device uses it any more.
    #[doc(hidden)]
    #[inline]
    pub unsafe fn dealloc(&self, ptr: NonNull<u8>, layout: Layout) {
        let Some(size) = Size::of(layout.size()) else { return };
        if layout.size() != 0 {
            // SAFETY:
            // - P4: the caller owned the piece, and promises that neither the host nor a device
            //   uses it.
            unsafe {
                B::host_touches(HostAccess::write(ptr.as_ptr(), layout.size(), "giving memory back to the pinned pool"))
            };
            self.lock().give_back(size, ptr);
        }
    }

    /// Locks a block of `bytes` bytes.
    #[cold]
    fn grow(&self, blocks: &mut Blocks, bytes: usize, is_own: bool) -> Result<(), AllocError> {
        let size = NonZero::new(bytes).ok_or(AllocError::OutOfMemory)?;
        blocks.expect_block().ok_or(AllocError::OutOfMemory)?;
        if is_own {
            while let Some(block) = blocks.take_surplus(bytes) {
                // The result is ignored: a block that the driver refuses to unlock is not tried
                // again.
                let _ = self.unpin(blocks, block);
            }
        }
        let base = match B::pin(size) {
            // Unlock all unused blocks, and try again.
            Err(error) if error.code == Code::OUT_OF_MEMORY && self.give_all_back(blocks) => B::pin(size)?,
            answer => answer?,
        };
        blocks.add(base, bytes, is_own);
        Ok(())
    }

    /// Unlocks all unused blocks. Returns whether one was unlocked.
    fn give_all_back(&self, blocks: &mut Blocks) -> bool {
        let mut any = false;
        while let Some(block) = blocks.take_unused() {
            any |= self.unpin(blocks, block).is_ok();
        }
        any
    }

    /// Unlocks a block that was taken out of the pool. If the driver refuses, the block returns to
    /// the pool as used.
    fn unpin(&self, blocks: &mut Blocks, block: Block) -> Result<()> {
        // SAFETY:
        // - P3: `base` comes from `pin`, and the block was taken out of the pool, so that it is
        //   unpinned once.
        // - P3: no piece of the block is in use, because its `used` is 0, and the callers of
        //   `dealloc` promise that a freed piece is not used.
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

/// The name of page-locked memory in messages.
const LOCATION: &str = "pinned";

/// The size of the piece for `layout`. `None` for a layout of 0 bytes.
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
