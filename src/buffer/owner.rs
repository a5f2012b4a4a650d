//! Memory that somebody else allocated.

use core::{alloc::Layout, fmt, ptr::NonNull};

use tidelock_driver::AllocError;

use super::Buffer;
use crate::{
    Element,
    alloc::Allocator,
    location::{Host, Location},
};

/// The allocator of a buffer whose memory belongs to an owner of type `O`: giving the memory back drops the owner.
pub struct Owner<O> {
    /// Invariant: from `Box::into_raw`, live until `dealloc` or the drop of a buffer of no bytes.
    owner: NonNull<O>,
}

impl<T: Element, O: AsMut<[T]> + 'static> Buffer<T, Host, Owner<O>> {
    /// Makes a buffer of the memory that `owner` holds, and keeps `owner` alive as long as the buffer.
    ///
    /// For memory that is shared or read-only, keep the owner yourself and make a [`View`](crate::View) with
    /// `View::from(&owner[..])`; for device memory, see [`from_raw_owner`](Buffer::from_raw_owner).
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
        // - `owner` was just leaked: it is valid, and nobody else has a reference to it.
        let slice = unsafe { &mut *owner.as_ptr() }.as_mut();
        let (ptr, len) = (NonNull::from(&mut *slice).cast(), slice.len());
        // SAFETY:
        // - The slice is exclusively borrowed from the owner, which stays where it is until the buffer drops it; no
        //   other reference to the owner is ever made.
        // - Every element is a `T`, and `Owner` gives the memory back by dropping the owner.
        unsafe { Buffer::from_raw_parts(ptr, len, handle) }
    }
}

impl<T: Element, D: Location, O: 'static> Buffer<T, D, Owner<O>> {
    /// Makes a buffer of `len` elements at `ptr`, and keeps `owner` alive as long as the buffer.
    ///
    /// # Safety
    /// - `ptr` is aligned, and `len` elements of `T` lie there in `D`, inside one allocation, until `owner` is dropped.
    /// - Nobody else touches them until then.
    /// - `owner` may be dropped while earlier work of the stream still uses the memory (device and staged memory).
    /// - The edges of the range lie inside the allocation or touch no memory that is used in the same batch group.
    #[inline]
    #[must_use]
    pub unsafe fn from_raw_owner(ptr: NonNull<T>, len: usize, owner: O) -> Self {
        let handle = Owner { owner: NonNull::from(Box::leak(Box::new(owner))) };
        // SAFETY:
        // - The caller promises what `from_raw_parts` asks, with `Owner` as the allocator.
        unsafe { Buffer::from_raw_parts(ptr, len, handle) }
    }
}

// SAFETY:
// - It never allocates; what it takes back came with the owner it drops.
unsafe impl<D: Location, O> Allocator<D> for Owner<O> {
    #[inline]
    fn alloc(&self, _: Layout) -> Result<NonNull<u8>, AllocError> {
        Err(AllocError::OutOfMemory)
    }

    #[inline]
    unsafe fn dealloc(&self, _: NonNull<u8>, _: Layout) {
        // The owner is dropped with the handle, so that buffers of no bytes drop it too.
    }
}

impl<O> Drop for Owner<O> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY:
        // - The pointer comes from a leaked box, and the handle, which is not `Clone`, is dropped once.
        // - The buffer has been given back before its fields are dropped, so that nobody borrows from the owner.
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
// - The handle owns the owner, and gives no access to it.
unsafe impl<O: Send> Send for Owner<O> {}
// SAFETY:
// - The handle gives no access to the owner.
unsafe impl<O: Sync> Sync for Owner<O> {}
