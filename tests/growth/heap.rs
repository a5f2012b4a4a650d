//! Counts the bytes of the host's heap that are in use. It is not the counter of
//! `tidelock_test_support::heap`, which counts allocations of one thread.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicIsize, Ordering},
};

static LIVE: AtomicIsize = AtomicIsize::new(0);

/// The bytes in use, of all threads together.
pub fn live() -> isize {
    LIVE.load(Ordering::SeqCst)
}

fn add(bytes: usize) {
    LIVE.fetch_add(bytes as isize, Ordering::SeqCst);
}

fn remove(bytes: usize) {
    LIVE.fetch_sub(bytes as isize, Ordering::SeqCst);
}

/// The system's heap, counted.
struct Counting;

// SAFETY:
// - Every method is that of `System` with the same arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        add(size);
        remove(layout.size());
        unsafe { System.realloc(ptr, layout, size) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        remove(layout.size());
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static HEAP: Counting = Counting;
