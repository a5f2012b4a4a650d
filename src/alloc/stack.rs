//! The arena of an engine iteration: one region, whose size is what an iteration needed. Allocating
//! bumps, freeing pops, and holes are filled again.

mod alignment;
mod holes;
mod region;
mod rehearsal;
mod space;

use core::{
    alloc::Layout,
    cell::{Cell, RefCell},
    fmt,
    marker::PhantomData,
    ptr::{self, NonNull},
};

pub use self::alignment::{AlignTo, Alignment};
use self::{
    rehearsal::Rehearsal,
    space::{Policy, Space},
};
use super::{AllocError, Allocator};
use crate::{
    error::{Error, Result, Shortage},
    location::{AnyThread, Location},
};

/// An arena in location `D`: one region from the upstream allocator `A`. What does not fit into the
/// region is allocated from `A` directly. Every allocation is aligned to `Align` bytes and takes a
/// multiple of `Align` bytes.
///
/// Buffers borrow the arena that they are allocated from, so that they cannot outlive it, and
/// [`reset`](Stack::reset) does not compile while one is alive. There are no frames to open or
/// close, and buffers may be dropped in any order: dropping the newest pops it, dropping another
/// leaves a hole that later allocations fill.
///
/// The first iteration allocates from `A`, and so does a later one for what exceeds the region.
/// [`reset`](Stack::reset) makes the region large enough: if iterations repeat, no call to `A` is
/// made from the second one on, and after a change none from the second iteration after it on.
/// While `A` is in use, every allocation is also placed, in numbers only, by several policies; the
/// next iterations use the policy that needs the smallest region, which is hardly larger than the
/// most bytes alive at one time. The region shrinks in [`shrink_to`](Stack::shrink_to), and where
/// `A` refused a request for lack of memory that the region holds.
///
/// Reuse on a device is safe because the region belongs to one stream: work on reused memory runs
/// after the work that was enqueued before.
///
/// Cost: where the newest buffer is dropped first, at most 20 instructions to allocate and 18 to
/// free; otherwise O(log n) in the number of holes. No driver call while the region is large
/// enough. No heap allocation in an iteration like the one before.
///
/// ```
/// use tidelock::{Stack, sim};
///
/// sim::Device::default().stream(|stream, _env| {
///     let mut stack = Stack::new(stream.ctx().pool());
///     for _ in 0..3 {
///         let ctx = stream.ctx().with_device_alloc(&stack);
///         let mut hidden = ctx.zeros::<f32>(1000)?;
///         for _layer in 0..80 {
///             let next = ctx.zeros::<f32>(1000)?;
///             hidden = next; // drops the layer before
///         }
///         drop(hidden);
///         // From the second round on, one region holds the two layers alive at a time.
///         stack.reset()?;
///     }
///     assert_eq!(stack.usage().capacity, 2 * 4096);
///     Ok::<(), tidelock::Error>(())
/// })??;
/// # Ok::<(), tidelock::Error>(())
/// ```
pub struct Stack<D: Location, A: Allocator<D> = <D as Location>::DefaultAlloc, Align: Alignment = AlignTo<256>> {
    /// Invariants:
    /// 1. `base - Align .. base + capacity` is one allocation of `upstream`, aligned to `Align`;
    ///    without one, `base` is null and `capacity` is 0. The first `Align` bytes are never handed
    ///    out, so that no other memory of `upstream`, which may be a range of the same driver
    ///    allocation, ends where the region starts.
    /// 2. `top <= capacity`, and both are multiples of `Align`.
    /// 3. Unless `slow` is set, `end` is `capacity`, everything below `top` is allocated, and
    ///    nothing else in the region is. While `slow` is set, `end` is `top`, so that no allocation
    ///    bumps, and the space of `placement` records what is allocated.
    base: Cell<*mut u8>,
    capacity: Cell<usize>,
    top: Cell<usize>,
    end: Cell<usize>,
    slow: Cell<bool>,
    /// `top + beside` bytes are allocated, modulo 2^64: spilled bytes and the far side are added,
    /// holes subtracted.
    beside: Cell<usize>,
    /// The largest `top + beside` since the last `reset`. It is updated before memory is freed.
    peak: Cell<usize>,
    /// Bytes allocated from upstream directly.
    spilled: Cell<usize>,
    /// Whether an allocation did not fit into the region since the last `reset`.
    outgrown: Cell<bool>,
    /// The most bytes that would have been allocated at one time since the last `reset`, if
    /// upstream had not refused some beside the region.
    refused: Cell<usize>,
    /// The region that the last iteration needed, in bytes.
    needed: usize,
    /// The size of a region that upstream refused, for the next `reset`.
    owed: usize,
    leaked: usize,
    placement: RefCell<Placement>,
    upstream: A,
    marker: PhantomData<(D, Align)>,
}

/// Where allocations lie while `slow` is set.
struct Placement {
    /// Unless `slow` is set, the extent of its low side is out of date: `top` is right.
    space: Space,
    rehearsal: Option<Rehearsal>,
}

/// How full a [`Stack`] is, in bytes. An allocation counts with its size, rounded up to the arena's
/// alignment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StackUsage {
    /// The size of the region. Its allocation is one alignment larger.
    pub capacity: usize,
    /// Bytes allocated now, inside and outside of the region, without holes.
    pub in_use: usize,
    /// The largest `in_use` since the last [`reset`](Stack::reset).
    pub peak: usize,
    /// Bytes from upstream directly that were forgotten (`mem::forget`) in earlier iterations, and
    /// cannot be freed any more.
    pub leaked: usize,
}

impl<D: Location, A: Allocator<D>> Stack<D, A> {
    /// An arena without a region, aligned to 256 bytes. The first [`reset`](Stack::reset) allocates
    /// the region.
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
            end: Cell::new(0),
            slow: Cell::new(true),
            beside: Cell::new(0),
            peak: Cell::new(0),
            spilled: Cell::new(0),
            outgrown: Cell::new(false),
            refused: Cell::new(0),
            needed: 0,
            owed: 0,
            leaked: 0,
            placement: RefCell::new(Placement { space: Space::new(Policy::Low, 0), rehearsal: Some(Rehearsal::new()) }),
            upstream,
            marker: PhantomData,
        }
    }

    /// Ends an iteration: empties the arena, and makes its region as large as the iteration needed.
    ///
    /// `&mut self` proves that no allocation is reachable. The memory of a forgotten buffer is used
    /// again if it lies in the region; otherwise it is lost, and counted as
    /// [`leaked`](StackUsage::leaked). The old region is freed before a larger one is allocated.
    ///
    /// If upstream refused a request beside the region, but can meet it once the region is freed,
    /// the arena has no region for one iteration, in which the request is met, and a region that is
    /// large enough from then on. Finding this out takes at most four calls to upstream.
    ///
    /// # Errors
    /// The error of the upstream allocator. The arena is then empty and without a region. It
    /// allocates everything from upstream until a `reset` succeeds in allocating the region, whose
    /// size is kept.
    #[inline]
    pub fn reset(&mut self) -> Result<()> {
        self.note_peak();
        let (capacity, peak) = (self.capacity.get(), self.peak.get());
        let placement = self.placement.get_mut();
        let best = placement.rehearsal.take().and_then(|rehearsal| rehearsal.best(capacity));
        let (policy, needed) = match best {
            Some(best) => best,
            None if self.outgrown.get() => (placement.space.policy(), peak),
            None => (placement.space.policy(), placement.space.need().max(peak.min(capacity))),
        };
        self.needed = needed;
        let settled = best.is_some() || !self.outgrown.get();
        self.leaked = self.leaked.saturating_add(self.spilled.replace(0));
        self.outgrown.set(false);
        let want = capacity.max(needed).max(self.owed);
        let refused = self.refused.replace(0);
        let answer = if refused > 0 && (capacity == 0 || self.could_have(refused)) {
            Ok(())
        } else if want > self.capacity.get() {
            self.resize(want)
        } else {
            Ok(())
        };
        self.owed = if answer.is_ok() { 0 } else { want };
        let capacity = self.capacity.get();
        self.placement.get_mut().rehearsal = (!settled || capacity == 0).then(Rehearsal::new);
        self.place(|space| space.reset(policy, capacity));
        self.peak.set(0);
        answer
    }

    /// Makes the region at least `bytes` bytes large. Each allocation takes its size rounded up to
    /// the alignment. Before the first iteration this replaces a warm-up.
    ///
    /// # Errors
    /// [`Error::TooLarge`], or the error of the upstream allocator, which is called after the old
    /// region is freed. The region then has the size it had, or there is none if upstream refuses
    /// that too.
    #[inline]
    pub fn reserve(&mut self, bytes: usize) -> Result<()> {
        let bytes = bytes.checked_next_multiple_of(Align::BYTES).ok_or(Error::TooLarge { operand: "stack" })?;
        if bytes <= self.capacity.get() { Ok(()) } else { self.resize_or_restore(bytes) }
    }

    /// Shrinks the region to `bytes` bytes, or to what the last ended iteration needed if that is
    /// more, as [`Vec::shrink_to`] keeps what the elements need. A smaller region stays as it is.
    ///
    /// The rest goes back to the upstream allocator. If that is a stream's pool,
    /// [`Stream::trim`](crate::Stream::trim) gives it back to the device.
    ///
    /// # Errors
    /// As for [`reserve`](Stack::reserve).
    #[inline]
    pub fn shrink_to(&mut self, bytes: usize) -> Result<()> {
        let keep = bytes.checked_next_multiple_of(Align::BYTES).unwrap_or(usize::MAX).max(self.needed);
        if keep >= self.capacity.get() { Ok(()) } else { self.resize_or_restore(keep) }
    }

    /// How full the arena is.
    #[inline]
    #[must_use]
    pub fn usage(&self) -> StackUsage {
        self.note_peak();
        StackUsage { capacity: self.capacity.get(), in_use: self.in_use(), peak: self.peak.get(), leaked: self.leaked }
    }

    #[inline]
    fn in_use(&self) -> usize {
        self.top.get().wrapping_add(self.beside.get())
    }

    /// Updates the peak. Called before memory is freed, so that allocating does not have to.
    #[inline]
    fn note_peak(&self) {
        self.peak.set(self.peak.get().max(self.in_use()));
    }

    /// `bytes` rounded up to `Align`. It does not wrap: the size of a layout is at most
    /// `isize::MAX`.
    #[inline]
    fn round(bytes: usize) -> usize {
        let mask = Align::BYTES.wrapping_sub(1);
        bytes.wrapping_add(mask) & !mask
    }

    /// The layout of an allocation from upstream directly.
    fn spill(bytes: usize, align: usize) -> Option<Layout> {
        Layout::from_size_align(bytes, align.max(Align::BYTES)).ok()
    }

    /// Applies `change` to the space, and updates the fields that depend on it.
    fn place<R>(&self, change: impl FnOnce(&mut Space) -> R) -> R {
        let mut placement = self.placement.borrow_mut();
        let Placement { space, rehearsal } = &mut *placement;
        if !self.slow.get() {
            space.low.extent = self.top.get();
        }
        let answer = change(space);
        let top = space.low.extent;
        self.top.set(top);
        self.beside.set(space.beside_low().wrapping_add(self.spilled.get()));
        let slow = rehearsal.is_some() || self.capacity.get() == 0 || !space.is_plain();
        self.slow.set(slow);
        self.end.set(if slow { top } else { self.capacity.get() });
        answer
    }

    #[cold]
    #[inline(never)]
    fn alloc_slow(&self, bytes: usize, align: usize) -> Result<NonNull<u8>, AllocError> {
        if bytes == 0 {
            return Self::spill(0, align).map(|layout| layout.dangling_ptr()).ok_or(AllocError::OutOfMemory);
        }
        if align > Align::BYTES {
            return self.alloc_upstream(bytes, align);
        }
        let inside = self
            .place(|space| space.take(bytes))
            .and_then(|place| NonNull::new(self.base.get().wrapping_add(place.offset(self.capacity.get(), bytes))));
        let ptr = match inside {
            Some(ptr) => ptr,
            None => {
                self.outgrown.set(true);
                self.alloc_upstream(bytes, align)?
            }
        };
        if let Some(rehearsal) = &mut self.placement.borrow_mut().rehearsal {
            rehearsal.take(ptr.addr().get(), bytes);
        }
        Ok(ptr)
    }

    fn alloc_upstream(&self, bytes: usize, align: usize) -> Result<NonNull<u8>, AllocError> {
        let layout = Self::spill(bytes, align).ok_or(AllocError::OutOfMemory)?;
        let ptr = match self.upstream.alloc(layout) {
            Err(AllocError::OutOfMemory) if self.capacity.get() > 0 => self.alloc_for_region(layout)?,
            answer => answer?,
        };
        self.spilled.set(self.spilled.get().saturating_add(bytes));
        self.place(|_| ());
        Ok(ptr)
    }

    /// Serves a request that upstream refused while there is a region. If nothing is allocated, the
    /// region is freed and the request made again; otherwise it fails, and the next `reset` takes
    /// it into account.
    fn alloc_for_region(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        let in_use = self.in_use();
        if in_use > 0 {
            self.refused.set(self.refused.get().max(in_use.saturating_add(layout.size())));
            return Err(AllocError::OutOfMemory);
        }
        // SAFETY:
        // - No byte is allocated: every allocation has been freed.
        unsafe { self.release() }
        // Upstream may have the freed memory only later, when the stream has passed the free.
        self.upstream.alloc(layout).inspect_err(|_| self.refused.set(self.refused.get().max(layout.size())))
    }

    /// Frees what is not the newest allocation of a plain stack.
    ///
    /// # Safety
    /// As for `dealloc`, with `bytes` rounded.
    #[cold]
    #[inline(never)]
    unsafe fn dealloc_slow(&self, ptr: NonNull<u8>, bytes: usize, align: usize) {
        if bytes == 0 {
            return;
        }
        if let Some(rehearsal) = &mut self.placement.borrow_mut().rehearsal {
            rehearsal.give(ptr.addr().get(), bytes);
        }
        let offset = ptr.addr().get().wrapping_sub(self.base.get().addr());
        if offset < self.capacity.get() {
            self.place(|space| space.give(space.place(offset, bytes), bytes));
            return;
        }
        self.spilled.set(self.spilled.get().saturating_sub(bytes));
        self.place(|_| ());
        if let Some(layout) = Self::spill(bytes, align) {
            // SAFETY:
            // - The memory is not in the region, so it came from `upstream` with this layout.
            unsafe { self.upstream.dealloc(ptr, layout) }
        }
    }
}

// SAFETY:
// - Memory in the region is exclusively the caller's: it lies between the old and the new `top`,
//   above every allocation, or in a place that `Space` has found free.
// - It is aligned: base and all offsets are multiples of `Align` (invariants 1 and 2); larger
//   alignments go upstream.
// - It stays until the region is freed. This needs `&mut Stack`, while the handle in every buffer
//   borrows the stack, or that no byte of it is allocated.
// - Allocations in the region are ranges of one allocation of `upstream`, which is itself not
//   adjacent to another one.
// - Freed memory is reused only by a later `alloc` for the same location, on a device in stream
//   order.
unsafe impl<D: Location, A: Allocator<D>, Align: Alignment> Allocator<D> for &Stack<D, A, Align> {
    #[inline]
    fn alloc(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        let bytes = Stack::<D, A, Align>::round(layout.size());
        let top = self.top.get();
        let room = self.end.get().wrapping_sub(top);
        // For 0 bytes this wraps to `usize::MAX`, which is not below any room: a null `base` is not
        // handed out.
        if bytes.wrapping_sub(1) >= room || layout.align() > Align::BYTES {
            return self.alloc_slow(bytes, layout.align());
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
        // Memory that ends at `top` lies in the region: other memory of upstream neither overlaps
        // the region, nor ends where it starts (invariant 1).
        if offset.wrapping_add(bytes) == self.top.get() && !self.slow.get() {
            self.top.set(offset);
        } else {
            // SAFETY:
            // - The caller keeps the contract of `dealloc`; `bytes` is the rounded size.
            unsafe { self.dealloc_slow(ptr, bytes, layout.align()) }
        }
    }

    #[inline]
    fn shortage(&self) -> Option<Shortage> {
        self.upstream.shortage()
    }
}

impl<D: Location, A: Allocator<D>, Align: Alignment> Drop for Stack<D, A, Align> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY:
        // - Every allocation borrows `self`, which is borrowed exclusively: none is reachable.
        unsafe { self.release() }
    }
}

impl<D: Location, A: Allocator<D>, Align: Alignment> fmt::Debug for Stack<D, A, Align> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack").field("location", &D::NAME).field("usage", &self.usage()).finish_non_exhaustive()
    }
}

// SAFETY:
// - Every allocation borrows the arena, so that none is reachable when it moves; the region is not
//   tied to a thread.
unsafe impl<D: AnyThread, A: Allocator<D> + Send, Align: Alignment> Send for Stack<D, A, Align> {}
// SAFETY:
// - Nothing is `sealed::Counted`, so that no arena is `Sync`. Written out so that rustc prints the
//   reason.
unsafe impl<D: Location, A: Allocator<D>, Align: Alignment> Sync for Stack<D, A, Align> where Self: sealed::Counted {}

static_assertions::assert_impl_all!(Stack<crate::location::Host>: Send);
static_assertions::assert_not_impl_any!(Stack<crate::location::Host>: Sync);

mod sealed {
    /// Implemented for no type: an arena counts without atomics.
    #[diagnostic::on_unimplemented(
        message = "an arena stays on one thread as long as memory of it lives, and `{Self}` is one",
        label = "counts without atomics",
        note = "an arena of its own on each thread, or memory of a default allocator: `Buffer<T, Host>` and `Buffer<T, L::Pinned>` are `Send`"
    )]
    pub trait Counted {}
}
