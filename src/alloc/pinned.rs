//! The process-wide pool of page-locked memory.
//!
//! Page-locking is slow (1.2 ms for 1 MiB on an H200's host, 2026-11-21), so memory is locked in large blocks, cut into
//! powers of two, and kept. A block goes back to the system only through [`trim`](PinnedPool::trim).

use core::{alloc::Layout, fmt, marker::PhantomData, num::NonZero, ptr::NonNull};

use super::{AllocError, Allocator};
use crate::{
    device::Backend,
    location::Pinned,
    sync::{self, Mutex, MutexGuard},
};

/// The default allocator of pinned memory: the process-wide pool of backend `B`.
pub struct PinnedAlloc<B>(PhantomData<B>);

/// The page-locked memory of a process, for backend `B`.
pub struct PinnedPool<B> {
    state: Mutex<State>,
    backend: PhantomData<fn() -> B>,
}

/// What a pinned pool holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolUsage {
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
        PinnedPool { state: Mutex::new(State::new()), backend: PhantomData }
    }

    /// What the pool holds now.
    #[inline]
    #[must_use]
    pub fn usage(&self) -> PoolUsage {
        let state = self.lock();
        PoolUsage {
            reserved: state.blocks.iter().fold(0, |sum, block| sum.saturating_add(block.bytes)),
            used: state.blocks.iter().fold(0, |sum, block| sum.saturating_add(block.used)),
        }
    }

    /// Gives blocks that are wholly unused back to the system until at most `bytes_to_keep` bytes are locked.
    ///
    /// Cost: one driver call a block.
    ///
    /// # Errors
    /// What the driver answered; the block then stays in the pool.
    #[inline]
    pub fn trim(&self, bytes_to_keep: usize) -> crate::Result<()> {
        let mut reserved = self.usage().reserved;
        let mut state = self.lock();
        while reserved > bytes_to_keep {
            let Some(at) = state.blocks.iter().position(|block| block.used == 0) else { break };
            let block = state.blocks.swap_remove(at);
            for list in &mut state.free {
                list.retain(|piece| !block.holds(piece.0));
            }
            if state.tail.is_some_and(|tail| block.holds(tail.0)) {
                state.tail = None;
                state.tail_bytes = 0;
            }
            // SAFETY:
            // - `base` comes from `pin` and leaves the pool here, so it is given back once.
            // - No piece of the block is handed out: its `used` is 0, and pieces come back to `dealloc` only when nobody
            //   uses them any more.
            if let Err(error) = unsafe { B::unpin(block.base.0) } {
                // The block is out of the free lists, so it is kept as used up for good: locked, but never handed out.
                state.blocks.push(Block { used: block.bytes, ..block });
                return Err(error.into());
            }
            reserved = reserved.saturating_sub(block.bytes);
        }
        Ok(())
    }

    /// Takes a piece of at least `layout.size()` bytes.
    pub(crate) fn alloc(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        if layout.size() == 0 {
            return Ok(layout.dangling_ptr());
        }
        if layout.align() > MIN_PIECE {
            return Err(AllocError::alignment(layout));
        }
        let class = Class::of(layout.size()).ok_or(AllocError::OutOfMemory)?;
        let mut state = self.lock();
        if let Some(piece) = state.pop(class) {
            return Ok(piece);
        }
        if class.bytes > state.tail_bytes {
            self.grow(&mut state, class)?;
        }
        state.cut(class)
    }

    /// Takes back a piece.
    ///
    /// # Safety
    /// - `ptr` comes from `alloc(layout)` of this pool and was not given back before.
    /// - Neither the host nor a device uses it any more.
    pub(crate) unsafe fn dealloc(&self, ptr: NonNull<u8>, layout: Layout) {
        let Some(class) = Class::of(layout.size()) else { return };
        if layout.size() != 0 {
            // SAFETY:
            // - The caller gives the piece up, and promises that nobody uses it any more.
            unsafe { B::host_touches(ptr.as_ptr(), layout.size(), true, "giving memory back to the pinned pool") };
            self.lock().push(class, ptr);
        }
    }

    /// Locks one more block, large enough for `class`, and cuts what is left of the last one into the free lists.
    #[cold]
    fn grow(&self, state: &mut State, class: Class) -> Result<(), AllocError> {
        // The block's last bytes are never handed out: whatever lies behind the block is not adjacent to a piece.
        let bytes = class.bytes.checked_add(MIN_PIECE).ok_or(AllocError::OutOfMemory)?.max(BLOCK);
        let size = NonZero::new(bytes).ok_or(AllocError::OutOfMemory)?;
        state.blocks.try_reserve(1).map_err(|_| AllocError::OutOfMemory)?;
        let base = B::pin(size)?;
        state.retire_tail();
        state.blocks.push(Block { base: Address(base), bytes, used: 0 });
        state.tail = Some(Address(base));
        state.tail_bytes = bytes.saturating_sub(MIN_PIECE);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        sync::lock(&self.state)
    }
}

impl<B: Backend> Default for PinnedPool<B> {
    #[inline]
    fn default() -> Self {
        PinnedPool::new()
    }
}

impl<B> fmt::Debug for PinnedPool<B> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinnedPool").finish_non_exhaustive()
    }
}

// SAFETY:
// - A piece is exclusively the caller's: it leaves a free list or the untouched tail, and comes back by `dealloc` only.
// - Pieces are aligned to `MIN_PIECE`, larger alignments are refused, and they live as long as the process unless trimmed.
// - Pieces of one block are ranges of one driver allocation; the last bytes of a block are never handed out, so that
//   pieces of two blocks are never adjacent.
unsafe impl<B: Backend> Allocator<Pinned<B>> for PinnedAlloc<B> {
    #[inline]
    fn alloc(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        B::pinned_pool().alloc(layout)
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: NonNull<u8>, layout: Layout) {
        // SAFETY:
        // - `ptr` comes from `alloc(layout)` above, once; pinned memory is used by no device before it is staged.
        unsafe { B::pinned_pool().dealloc(ptr, layout) }
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

/// Bytes locked at a time.
const BLOCK: usize = 2 << 20;
/// The smallest piece, and the alignment of every piece, in bytes: that of a `Stack` unless it says otherwise.
const MIN_PIECE: usize = 256;
/// Sizes of pieces: powers of two from `MIN_PIECE` to the top of the address space.
const CLASSES: usize = 56;

/// The blocks and the free pieces. The untouched tail of the newest block is not in a free list.
struct State {
    blocks: Vec<Block>,
    free: [Vec<Address>; CLASSES],
    tail: Option<Address>,
    tail_bytes: usize,
}

struct Block {
    base: Address,
    bytes: usize,
    used: usize,
}

/// An address in page-locked memory.
#[derive(Clone, Copy)]
struct Address(NonNull<u8>);

// SAFETY:
// - The pool only keeps the address; page-locked memory belongs to the process and not to a thread.
unsafe impl Send for Address {}

/// A size of pieces.
#[derive(Clone, Copy)]
struct Class {
    index: usize,
    bytes: usize,
}

impl Class {
    fn of(bytes: usize) -> Option<Class> {
        let bytes = bytes.max(MIN_PIECE).checked_next_power_of_two()?;
        let index = usize::try_from(bytes.ilog2().checked_sub(MIN_PIECE.ilog2())?).ok()?;
        Some(Class { index, bytes })
    }
}

impl Block {
    fn holds(&self, ptr: NonNull<u8>) -> bool {
        ptr.addr().get().wrapping_sub(self.base.0.addr().get()) < self.bytes
    }
}

impl State {
    const fn new() -> State {
        State { blocks: Vec::new(), free: [const { Vec::new() }; CLASSES], tail: None, tail_bytes: 0 }
    }

    fn pop(&mut self, class: Class) -> Option<NonNull<u8>> {
        let piece = self.free.get_mut(class.index)?.pop()?;
        self.count(piece.0, class.bytes, usize::saturating_add);
        Some(piece.0)
    }

    /// Takes a piece back; one that the list has no room for is lost, never handed out twice.
    fn push(&mut self, class: Class, ptr: NonNull<u8>) {
        self.count(ptr, class.bytes, usize::saturating_sub);
        self.keep(class, ptr);
    }

    fn keep(&mut self, class: Class, ptr: NonNull<u8>) {
        if let Some(list) = self.free.get_mut(class.index)
            && list.try_reserve(1).is_ok()
        {
            list.push(Address(ptr));
        }
    }

    /// Cuts a piece off the tail.
    fn cut(&mut self, class: Class) -> Result<NonNull<u8>, AllocError> {
        let tail = self.tail.ok_or(AllocError::OutOfMemory)?;
        let left = self.tail_bytes.checked_sub(class.bytes).ok_or(AllocError::OutOfMemory)?;
        // SAFETY:
        // - `tail` has `tail_bytes` bytes of its block in front of it, and `class.bytes` is at most that: the result is
        //   "in bounds of the allocated object or one byte past the end" (std 1.95, `NonNull::add`).
        let rest = unsafe { tail.0.add(class.bytes) };
        self.tail = Some(Address(rest));
        self.tail_bytes = left;
        self.count(tail.0, class.bytes, usize::saturating_add);
        Ok(tail.0)
    }

    /// Cuts what is left of the tail into free pieces, largest first.
    fn retire_tail(&mut self) {
        while let Some(bits) = self.tail_bytes.checked_ilog2() {
            let Some(class) = Class::of(1 << bits) else { break };
            let Ok(piece) = self.cut(class) else { break };
            self.count(piece, class.bytes, usize::saturating_sub);
            self.keep(class, piece);
        }
        self.tail_bytes = 0;
    }

    fn count(&mut self, ptr: NonNull<u8>, bytes: usize, change: fn(usize, usize) -> usize) {
        if let Some(block) = self.blocks.iter_mut().find(|block| block.holds(ptr)) {
            block.used = change(block.used, bytes);
        }
    }
}
