//! A global allocator that counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Allocations of this thread so far. Initialised at compile time and without a destructor, so
    /// that reading it neither allocates nor fails.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, which counts what each thread allocates.
pub struct Counting;

/// The number of heap allocations of the calling thread so far, including those that grow one.
pub fn allocations() -> u64 {
    ALLOCATIONS.get()
}

/// Calls `f` without counting its allocations.
pub fn uncounted<R>(f: impl FnOnce() -> R) -> R {
    let before = ALLOCATIONS.get();
    let answer = f();
    ALLOCATIONS.set(before);
    answer
}

fn count() {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
}

// SAFETY:
// - Every method does what `System` does, and counting touches no heap memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY:
        // - The caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY:
        // - The caller keeps the contract of `alloc_zeroed`, which is the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY:
        // - The caller keeps the contract of `realloc`, which is the same; the memory came from
        //   `System`.
        unsafe { System.realloc(ptr, layout, new_size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY:
        // - The caller keeps the contract of `dealloc`, which is the same; the memory came from
        //   `System`.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static HEAP: Counting = Counting;

    #[test]
    fn allocations_of_this_thread_are_counted_and_no_others() {
        let before = allocations();
        let boxed = std::hint::black_box(Box::new(1));
        assert_eq!(allocations(), before + 1);
        drop(boxed);
        let mut grown = Vec::<u64>::with_capacity(1);
        grown.reserve_exact(100);
        assert_eq!(allocations(), before + 3);
        let other = std::thread::spawn(|| {
            let before = allocations();
            drop(std::hint::black_box(vec![0_u8; 100]));
            allocations() - before
        });
        let before = allocations();
        assert_eq!(other.join().unwrap(), 1);
        assert_eq!(allocations(), before);
    }
}
