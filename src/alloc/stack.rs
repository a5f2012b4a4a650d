//! The arena of an engine iteration: one region, bumped on allocation, popped on drop, re-sized from its peak.

use core::{
    alloc::Layout,
    cell::{Cell, RefCell},
    fmt,
    marker::PhantomData,
    ptr::{self, NonNull},
};

use super::{AllocError, Allocator};
use crate::{
    error::Result,
    location::{AnyThread, Location},
};

/// A bump arena in location `D`, on top of allocator `A`; every allocation is aligned to `Align` bytes.
///
/// Buffers allocated from it borrow it, so they cannot outlive it, and [`iter`](Stack::iter) does not compile while one
/// lives. There are no frames: drop order is the frame. Dropping the newest allocation pops it; dropping another leaves a
/// hole, which is reclaimed when everything above it is gone. What does not fit into the region comes from `A` directly
/// until the next [`iter`](Stack::iter).
///
/// Reuse on a device is safe because the region belongs to one stream: whatever is enqueued on reused memory runs after
/// what was enqueued before.
///
/// Cost: at most 20 instructions to allocate, 18 to free; no driver call while the region is large enough.
///
/// ```
/// use tidelock::{Stack, sim};
///
/// sim::Device::default().stream(|stream, _env| {
///     let mut stack = Stack::new(stream.ctx().pool());
///     for _ in 0..3 {
///         let ctx = stream.ctx().with_device_alloc(&stack);
///         let (_logits, _scores) = (ctx.zeros::<f32>(1000)?, ctx.zeros::<f32>(24)?);
///         drop((_logits, _scores));
///         stack.iter()?; // the second round runs in one region of 4096 + 256 bytes
///     }
///     assert_eq!(stack.usage().capacity, 4096 + 256);
///     Ok::<(), tidelock::Error>(())
/// })??;
/// # Ok::<(), tidelock::Error>(())
/// ```
pub struct Stack<D: Location, A: Allocator<D> = <D as Location>::DefaultAlloc, Align: Alignment = AlignTo<256>> {
    /// Invariants:
    /// 1. `base - Align .. base + capacity` is one allocation of `upstream`, aligned to `Align`; without one, `base` is
    ///    null and `capacity` is 0. The first `Align` bytes are never handed out: whatever else `upstream` hands out, which
    ///    may be a range of the same allocation, does not end where the region starts.
    /// 2. `top <= capacity`, and both are multiples of `Align`.
    /// 3. Live allocations in the region, and the holes, lie below `top` and do not overlap.
    base: Cell<*mut u8>,
    capacity: Cell<usize>,
    top: Cell<usize>,
    /// Bytes that live outside of the region because they did not fit.
    spilled: Cell<usize>,
    /// The largest `top + spilled` seen since the last `iter`, not counting what has not been freed since.
    peak: Cell<usize>,
    /// How many holes there are; kept beside the list so that the fast path need not borrow it.
    hole_count: Cell<usize>,
    holes: RefCell<Vec<Hole>>,
    upstream: A,
    marker: PhantomData<(D, Align)>,
}

/// An alignment that a [`Stack`] can have: 16 to 256 bytes, a power of two. Sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an alignment that a `Stack` can have",
    label = "not 16, 32, 64, 128 or 256 bytes",
    note = "write it as `Stack<L, StreamAlloc<L>, AlignTo<64>>`; without the last parameter it is 256"
)]
pub trait Alignment: sealed::Sealed {
    /// The alignment in bytes.
    const BYTES: usize;
}

/// `BYTES` bytes, as an alignment: `AlignTo<16>` to `AlignTo<256>`.
#[derive(Clone, Copy, Debug)]
pub enum AlignTo<const BYTES: usize> {}

/// How full a [`Stack`] is, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StackUsage {
    /// The size of the region.
    pub capacity: usize,
    /// What is allocated now, holes and spilled allocations included.
    pub in_use: usize,
    /// The most that was allocated at one time since the last [`iter`](Stack::iter).
    pub peak: usize,
}

impl<D: Location, A: Allocator<D>> Stack<D, A> {
    /// An arena without a region, aligned to 256 bytes; the first [`iter`](Stack::iter) sizes it.
    #[inline]
    #[must_use]
    pub fn new(upstream: A) -> Self {
        Stack::with_align(upstream)
    }
}

impl<D: Location, A: Allocator<D>, Align: Alignment> Stack<D, A, Align> {
    /// An arena without a region, aligned to `Align` bytes.
    #[inline]
    #[must_use]
    pub fn with_align(upstream: A) -> Self {
        Stack {
            base: Cell::new(ptr::null_mut()),
            capacity: Cell::new(0),
            top: Cell::new(0),
            spilled: Cell::new(0),
            peak: Cell::new(0),
            hole_count: Cell::new(0),
            holes: RefCell::new(Vec::new()),
            upstream,
            marker: PhantomData,
        }
    }

    /// Ends an iteration: empties the arena and makes its region as large as the iteration's peak.
    ///
    /// `&mut self` proves that no allocation is reachable; a forgotten one is unreachable for ever, and its memory is
    /// simply used again. The region never shrinks. The old region is freed before the new one is allocated.
    ///
    /// # Errors
    /// What the upstream allocator answered. The arena is then empty and without a region; everything it allocates comes
    /// from upstream until an `iter` succeeds, for which the peak is remembered.
    #[inline]
    pub fn iter(&mut self) -> Result<()> {
        self.note_peak();
        let want = self.peak.get();
        self.top.set(0);
        self.spilled.set(0);
        self.hole_count.set(0);
        self.holes.get_mut().clear();
        if want > self.capacity.get() {
            self.release();
            let layout = Self::region(want).ok_or(crate::Error::TooLarge { operand: "stack" })?;
            let base = self.upstream.alloc(layout).map_err(|error| error.of::<D>(want))?;
            self.base.set(base.as_ptr().wrapping_add(Align::BYTES));
            self.capacity.set(want);
        }
        self.peak.set(0);
        Ok(())
    }

    /// How full the arena is.
    #[inline]
    #[must_use]
    pub fn usage(&self) -> StackUsage {
        self.note_peak();
        StackUsage { capacity: self.capacity.get(), in_use: self.in_use(), peak: self.peak.get() }
    }

    #[inline]
    fn in_use(&self) -> usize {
        self.top.get().saturating_add(self.spilled.get())
    }

    /// The peak is looked at before memory is given back, so that allocating need not look.
    #[inline]
    fn note_peak(&self) {
        self.peak.set(self.peak.get().max(self.top.get().wrapping_add(self.spilled.get())));
    }

    /// `bytes` rounded up to `Align`; a layout's size is at most `isize::MAX`, so that this cannot wrap.
    #[inline]
    fn round(bytes: usize) -> usize {
        let mask = Align::BYTES.wrapping_sub(1);
        bytes.wrapping_add(mask) & !mask
    }

    /// The layout of a region of `bytes` bytes, and `Align` in front of it.
    fn region(bytes: usize) -> Option<Layout> {
        Layout::from_size_align(bytes.checked_add(Align::BYTES)?, Align::BYTES).ok()
    }

    /// The layout of an allocation that upstream serves.
    fn spill(bytes: usize, align: usize) -> Option<Layout> {
        Layout::from_size_align(bytes, align.max(Align::BYTES)).ok()
    }

    fn release(&self) {
        let (base, capacity) = (self.base.replace(ptr::null_mut()), self.capacity.replace(0));
        if base.is_null() {
            return;
        }
        if let (Some(start), Some(layout)) = (NonNull::new(base.wrapping_sub(Align::BYTES)), Self::region(capacity)) {
            // SAFETY:
            // - Invariant 1: `start` comes from `upstream` with this layout; `base` was replaced above, so it goes back once.
            // - No allocation in it is reachable: the callers hold `&mut self`.
            unsafe { self.upstream.dealloc(start, layout) }
        }
    }

    #[cold]
    #[inline(never)]
    fn alloc_upstream(&self, bytes: usize, align: usize) -> Result<NonNull<u8>, AllocError> {
        let layout = Self::spill(bytes, align).ok_or(AllocError::OutOfMemory)?;
        let spilled = self.spilled.get().checked_add(bytes).ok_or(AllocError::OutOfMemory)?;
        let ptr = self.upstream.alloc(layout)?;
        self.spilled.set(spilled);
        Ok(ptr)
    }

    /// # Safety
    /// As for `dealloc`, with `bytes` rounded.
    #[cold]
    #[inline(never)]
    unsafe fn dealloc_slow(&self, ptr: NonNull<u8>, bytes: usize, align: usize) {
        let offset = ptr.addr().get().wrapping_sub(self.base.get().addr());
        if offset >= self.capacity.get() {
            self.spilled.set(self.spilled.get().saturating_sub(bytes));
            if let Some(layout) = Self::spill(bytes, align) {
                // SAFETY:
                // - The memory is not in the region, so it came from `upstream` with this layout.
                unsafe { self.upstream.dealloc(ptr, layout) }
            }
            return;
        }
        let mut holes = self.holes.borrow_mut();
        if offset.wrapping_add(bytes) == self.top.get() {
            let mut top = offset;
            while let Some(at) = holes.iter().position(|hole| hole.end == top) {
                top = holes.swap_remove(at).start;
            }
            self.top.set(top);
        } else if holes.try_reserve(1).is_ok() {
            holes.push(Hole { start: offset, end: offset.wrapping_add(bytes) });
        }
        self.hole_count.set(holes.len());
    }
}

/// A range of the region that was given back while something above it lived.
#[derive(Clone, Copy)]
struct Hole {
    start: usize,
    end: usize,
}

// SAFETY:
// - Memory in the region is exclusively the caller's: it lies between the old and the new `top`, above everything live.
// - It is aligned: base and `top` are multiples of `Align` (invariants 1 and 2); larger alignments go upstream.
// - It lives until the region is freed, which needs `&mut Stack`, while the handle in every buffer borrows the stack.
// - Allocations in the region are ranges of one allocation of `upstream`, which is itself not adjacent to another one.
// - Memory goes to somebody else only through a later `alloc` for the same location, in stream order on a device.
unsafe impl<D: Location, A: Allocator<D>, Align: Alignment> Allocator<D> for &Stack<D, A, Align> {
    #[inline]
    fn alloc(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        let bytes = Stack::<D, A, Align>::round(layout.size());
        let top = self.top.get();
        // Invariant 2: this does not wrap.
        if bytes > self.capacity.get().wrapping_sub(top) || layout.align() > Align::BYTES {
            return self.alloc_upstream(bytes, layout.align());
        }
        let ptr = self.base.get().wrapping_add(top);
        self.top.set(top.wrapping_add(bytes));
        NonNull::new(ptr).ok_or(AllocError::OutOfMemory)
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: NonNull<u8>, layout: Layout) {
        let bytes = Stack::<D, A, Align>::round(layout.size());
        self.note_peak();
        let offset = ptr.addr().get().wrapping_sub(self.base.get().addr());
        // Memory that ends at `top` lies in the region: what upstream handed out besides does not overlap it, nor end where
        // it starts (invariant 1).
        if offset.wrapping_add(bytes) == self.top.get() && self.hole_count.get() == 0 {
            self.top.set(offset);
        } else {
            // SAFETY:
            // - The caller keeps the contract of `dealloc`; `bytes` is the rounded size.
            unsafe { self.dealloc_slow(ptr, bytes, layout.align()) }
        }
    }
}

impl<D: Location, A: Allocator<D>, Align: Alignment> Drop for Stack<D, A, Align> {
    #[inline]
    fn drop(&mut self) {
        self.release();
    }
}

impl<D: Location, A: Allocator<D>, Align: Alignment> fmt::Debug for Stack<D, A, Align> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack").field("location", &D::NAME).field("usage", &self.usage()).finish_non_exhaustive()
    }
}

// SAFETY:
// - Every allocation borrows the arena, so that none is reachable when it moves; the region belongs to no thread.
unsafe impl<D: AnyThread, A: Allocator<D> + Send, Align: Alignment> Send for Stack<D, A, Align> {}
// SAFETY:
// - Nothing is `sealed::Counted`: no arena is shared. Written out so that the compiler gives its reason.
unsafe impl<D: Location, A: Allocator<D>, Align: Alignment> Sync for Stack<D, A, Align> where Self: sealed::Counted {}

static_assertions::assert_impl_all!(Stack<crate::Host>: Send);
static_assertions::assert_not_impl_any!(Stack<crate::Host>: Sync);
static_assertions::assert_not_impl_any!(Stack<crate::Sim<'static>>: Send, Sync);

macro_rules! alignments {
    ($($bytes:literal)*) => {$(
        impl sealed::Sealed for AlignTo<$bytes> {}
        impl Alignment for AlignTo<$bytes> {
            const BYTES: usize = $bytes;
        }
    )*};
}
alignments!(16 32 64 128 256);

mod sealed {
    /// Implemented for nothing: an arena counts without atomics.
    #[diagnostic::on_unimplemented(
        message = "an arena stays on one thread as long as memory of it lives, and `{Self}` is one",
        label = "counts without atomics",
        note = "an arena of its own on each thread, or memory of a default allocator: `Buffer<T, Host>` and `Buffer<T, L::Pinned>` are `Send`"
    )]
    pub trait Counted {}

    /// Implemented for the alignments in this file only.
    #[diagnostic::on_unimplemented(
        message = "`Alignment` is sealed, and `{Self}` is not one that a `Stack` can have",
        label = "not `AlignTo<16>`, `AlignTo<32>`, `AlignTo<64>`, `AlignTo<128>` or `AlignTo<256>`"
    )]
    pub trait Sealed {}
}
