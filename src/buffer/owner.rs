//! Memory that was allocated elsewhere, and is freed by dropping its owner.

use core::{alloc::Layout, fmt, ptr::NonNull};

use tidelock_driver::AllocError;

use super::Buffer;
use crate::{
    Element,
    alloc::Allocator,
    location::{Host, Location},
};

/// The allocator of a buffer whose memory belongs to an owner of type `O`: freeing the memory drops
/// the owner.
pub struct Owner<O> {
    /// Invariant: a leaked box, live until the handle is dropped.
    owner: NonNull<O>,
}

impl<T: Element, O: AsMut<[T]> + 'static> Buffer<T, Host, Owner<O>> {
    /// A buffer of the memory that `owner` holds. `owner` is dropped with the buffer.
    ///
    /// For memory that is shared or read-only, keep the owner yourself and make a
    /// [`View`](crate::View) with `View::from(&owner[..])`; for device memory, see
    /// [`from_raw_owner`](Buffer::from_raw_owner).
    ///
    /// Cost: one allocation, for the owner.
    ///
    /// ```
    /// use tidelock::Buffer;
    ///
    /// let mut weights = Buffer::from_owner(vec![1.0_f32, 2.0]);
    /// weights[1] = 3.0;
    /// assert_eq!(weights.view().slice(..)?.as_slice(), &[1.0, 3.0]);
    /// # Ok::<(), tidelock::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn from_owner(owner: O) -> Self {
        let owner = NonNull::from(Box::leak(Box::new(owner)));
        let handle = Owner { owner };
        // SAFETY:
        // - `owner` was just leaked: it is valid, and there is no other reference to it.
        let slice = unsafe { &mut *owner.as_ptr() }.as_mut();
        let (ptr, len) = (NonNull::from(&mut *slice).cast(), slice.len());
        // SAFETY:
        // - The slice is exclusively borrowed from the owner, which does not move until the buffer
        //   drops it; no other reference to the owner is made.
        // - Every element is a `T`, and `Owner` frees the memory by dropping the owner.
        unsafe { Buffer::from_raw_parts(ptr, len, handle) }
    }
}

impl<T: Element, D: Location, O: 'static> Buffer<T, D, Owner<O>> {
    /// A buffer of `len` elements at `ptr`. `owner` is dropped with the buffer.
    ///
    /// # Safety
    /// - `ptr` is aligned, and `len` elements of `T` lie there in `D`, inside one allocation, until
    ///   `owner` is dropped.
    /// - They are accessed through the buffer only, until then.
    /// - `owner` may be dropped while earlier work of the stream still uses the memory (device and
    ///   staged memory).
    /// - Each end of the range lies inside the allocation, or is not adjacent to memory that is
    ///   used in the same batch group.
    #[inline]
    #[must_use]
    pub unsafe fn from_raw_owner(ptr: NonNull<T>, len: usize, owner: O) -> Self {
        let handle = Owner { owner: NonNull::from(Box::leak(Box::new(owner))) };
        // SAFETY:
        // - The caller keeps the contract of `from_raw_parts`, with `Owner` as the allocator.
        unsafe { Buffer::from_raw_parts(ptr, len, handle) }
    }
}

// SAFETY:
// - It never allocates; the memory that it frees belongs to the owner that it drops.
unsafe impl<D: Location, O> Allocator<D> for Owner<O> {
    #[inline]
    fn alloc(&self, _: Layout) -> Result<NonNull<u8>, AllocError> {
        Err(AllocError::OutOfMemory)
    }

    #[inline]
    unsafe fn dealloc(&self, _: NonNull<u8>, _: Layout) {
        // The handle's drop drops the owner, because no buffer of 0 bytes calls `dealloc`.
    }
}

impl<O> Drop for Owner<O> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY:
        // - The pointer comes from a leaked box, and the handle, which is not `Clone`, is dropped
        //   once.
        // - The buffer calls `dealloc` before its fields are dropped, and does not use the memory
        //   after that.
        drop(unsafe { Box::from_raw(self.owner.as_ptr()) });
    }
}

impl<O> fmt::Debug for Owner<O> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owner").finish_non_exhaustive()
    }
}

// SAFETY:
// - The handle owns the owner and gives no access to it, so that `O: Send` suffices.
unsafe impl<O: Send> Send for Owner<O> {}
// SAFETY:
// - The handle gives no access to the owner.
unsafe impl<O: Sync> Sync for Owner<O> {}
