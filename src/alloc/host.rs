//! The allocator of plain host memory.

use core::{alloc::Layout, ptr::NonNull};
use std::alloc;

use super::{AllocError, Allocator};
use crate::location::Host;

/// The heap of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostAlloc;

static_assertions::assert_eq_size!(HostAlloc, ());

// SAFETY:
// - The memory of the global allocator is exclusively the caller's until it is freed, and has the
//   alignment of the layout.
// - Batches merge no copies of plain host memory, so that adjacent allocations are allowed.
unsafe impl Allocator<Host> for HostAlloc {
    #[inline]
    fn alloc(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        if layout.size() == 0 {
            return Ok(layout.dangling_ptr());
        }
        // SAFETY:
        // - The size of `layout` is not 0, the only precondition of `GlobalAlloc::alloc`:
        //   "undefined behavior can result if the caller does not ensure that layout has non-zero
        //   size" (std 1.95).
        let ptr = unsafe { alloc::alloc(layout) };
        NonNull::new(ptr).ok_or(AllocError::OutOfMemory)
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: NonNull<u8>, layout: Layout) {
        if layout.size() == 0 {
            return;
        }
        // SAFETY:
        // - `ptr` is "a block of memory currently allocated via this allocator" and `layout` is
        //   "the same layout that was used to allocate that block" (std 1.95,
        //   `GlobalAlloc::dealloc`): the caller promises both.
        unsafe { alloc::dealloc(ptr.as_ptr(), layout) }
    }
}
