//! The region of an arena: allocated from upstream, freed, and replaced by one of another size.

use core::{
    alloc::Layout,
    ptr::{self, NonNull},
};

use super::{Alignment, AllocError, Allocator, Stack};
use crate::{
    error::{Error, Result},
    location::Location,
};

impl<D: Location, A: Allocator<D>, Align: Alignment> Stack<D, A, Align> {
    /// The layout of a region of `bytes` bytes, with `Align` bytes in front of it.
    pub(super) fn region(bytes: usize) -> Option<Layout> {
        Layout::from_size_align(bytes.checked_add(Align::BYTES)?, Align::BYTES).ok()
    }

    /// Frees the region, and empties the space.
    ///
    /// # Safety
    /// - No allocation in the region is used any more.
    pub(super) unsafe fn release(&self) {
        let (base, capacity) = (self.base.replace(ptr::null_mut()), self.capacity.replace(0));
        self.place(|space| space.reset(space.policy(), 0));
        if base.is_null() {
            return;
        }
        if let (Some(start), Some(layout)) = (NonNull::new(base.wrapping_sub(Align::BYTES)), Self::region(capacity)) {
            // SAFETY:
            // - Invariant 1: `start` comes from `upstream` with this layout; `base` was replaced
            //   above, so that it is freed once.
            // - The caller promises that no allocation in it is used any more.
            unsafe { self.upstream.dealloc(start, layout) }
        }
    }

    /// Allocates a region of `bytes` bytes; there must be none.
    fn acquire(&mut self, bytes: usize) -> Result<(), AllocError> {
        if bytes == 0 {
            return Ok(());
        }
        let layout = Self::region(bytes).ok_or(AllocError::OutOfMemory)?;
        let start = self.upstream.alloc(layout)?;
        self.base.set(start.as_ptr().wrapping_add(Align::BYTES));
        self.capacity.set(bytes);
        self.place(|space| space.reset(space.policy(), bytes));
        Ok(())
    }

    /// Replaces the region by one of `bytes` bytes. On failure there is none.
    pub(super) fn resize(&mut self, bytes: usize) -> Result<()> {
        if Self::region(bytes).is_none() {
            return Err(Error::TooLarge { operand: "stack" });
        }
        self.note_peak();
        // SAFETY:
        // - Every allocation borrows `self`, which is borrowed exclusively: none is reachable.
        unsafe { self.release() }
        self.acquire(bytes).map_err(|error| error.explained(D::NAME, bytes, || self.upstream.shortage()))
    }

    /// As [`resize`](Stack::resize); on failure, a region of the size before is allocated again.
    pub(super) fn resize_or_restore(&mut self, bytes: usize) -> Result<()> {
        let before = self.capacity.get();
        self.resize(bytes).inspect_err(|_| {
            if self.capacity.get() == 0 {
                // If upstream refuses this too, `usage` shows a capacity of 0.
                self.acquire(before).unwrap_or_default();
            }
        })
    }

    /// Whether upstream has `bytes` bytes after the region is freed. If so, the region stays freed.
    pub(super) fn could_have(&mut self, bytes: usize) -> bool {
        let (Some(layout), capacity) = (Self::region(bytes), self.capacity.get()) else { return false };
        // SAFETY:
        // - Every allocation borrows `self`, which is borrowed exclusively: none is reachable.
        unsafe { self.release() }
        let Ok(ptr) = self.upstream.alloc(layout) else {
            // If upstream refuses the region as well, the caller allocates it again.
            self.acquire(capacity).unwrap_or_default();
            return false;
        };
        // SAFETY:
        // - `ptr` is fresh from `upstream` with this layout, and is not used.
        unsafe { self.upstream.dealloc(ptr, layout) }
        true
    }
}
