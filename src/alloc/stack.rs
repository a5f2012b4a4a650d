//! The arena of an engine iteration: one region, sized from what an iteration needed; bumped and popped, holes filled.

mod alignment;
mod holes;
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

/// An arena in location `D`, on top of allocator `A`: one region, and what does not fit into it from `A` directly. Every
/// allocation is aligned to `Align` bytes and takes a multiple of them.
///
/// Buffers allocated from it borrow it, so they cannot outlive it, and [`reset`](Stack::reset) does not compile while one
/// lives. There are no frames: drop order is the frame, and any order will do. Dropping the newest allocation pops it;
/// dropping another leaves a hole, into which later allocations go.
///
/// The first iteration comes from `A`, and so does what a later one needs beyond the region. [`reset`](Stack::reset) makes
/// the region large enough: a program that repeats itself makes no call to `A` from the second iteration on, and one that
/// changes none from the second iteration after the change on. So that the region is hardly larger than the most bytes
/// alive at one time, these iterations are placed in several ways at once, and the next ones in the way that needs least.
/// The region shrinks in [`shrink_to`](Stack::shrink_to), and when it makes room for a request that `A` refused.
///
/// Reuse on a device is safe because the region belongs to one stream: whatever is enqueued on reused memory runs after
/// what was enqueued before.
///
/// Cost: where the newest is dropped first, at most 20 instructions to allocate, 18 to free; otherwise O(log n) in the number
/// of holes. No driver call while the region is large enough. No heap allocation in an iteration like the one before.
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
///         stack.reset()?; // the second round runs in one region, of the two layers that live at a time
///     }
///     assert_eq!(stack.usage().capacity, 2 * 4096);
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
    /// 3. Unless `slow` is set, `end` is `capacity`, all below `top` is allocated, and nothing else in the region is. While
    ///    `slow` is set, `end` is `top`, so that nothing is bumped, and the space of `placement` says what is allocated.
    base: Cell<*mut u8>,
    capacity: Cell<usize>,
    top: Cell<usize>,
    end: Cell<usize>,
    slow: Cell<bool>,
    /// `top + beside` bytes are allocated: what is spilled or on the far side is added, holes are taken off, modulo 2^64.
    beside: Cell<usize>,
    /// The largest `top + beside` since the last `iter`, not counting what has not been freed since.
    peak: Cell<usize>,
    /// Bytes that live outside of the region.
    spilled: Cell<usize>,
    /// Whether something did not fit since the last `iter`.
    outgrown: Cell<bool>,
    /// The most bytes that would have lived since the last `iter`, had upstream not refused some beside the region.
    refused: Cell<usize>,
    /// What the last iteration needed of the region.
    needed: usize,
    /// The size of a region that upstream refused.
    owed: usize,
    leaked: usize,
    placement: RefCell<Placement>,
    upstream: A,
    marker: PhantomData<(D, Align)>,
}

/// Where things are, when they are not simply stacked.
struct Placement {
    /// While the stack is not slow, the extent of the low side is out of date: it is `top`.
    space: Space,
    rehearsal: Option<Rehearsal>,
}

/// How full a [`Stack`] is, in bytes. An allocation counts with its size rounded up to the arena's alignment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StackUsage {
    /// The size of the region. Its allocation is one alignment larger.
    pub capacity: usize,
    /// What is allocated now, inside and outside of the region. Holes are not.
    pub in_use: usize,
    /// The largest `in_use` since the last [`reset`](Stack::reset).
    pub peak: usize,
    /// What came from upstream directly and was forgotten, in all iterations before: it cannot be given back any more.
    pub leaked: usize,
}

impl<D: Location, A: Allocator<D>> Stack<D, A> {
    /// An arena without a region, aligned to 256 bytes; the first [`reset`](Stack::reset) sizes it.
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

    /// Ends an iteration: empties the arena and makes its region as large as the iteration needed it.
    ///
    /// `&mut self` proves that no allocation is reachable. A forgotten one is unreachable for ever: in the region, its
    /// memory is simply used again; outside of it, its memory is lost and counted as [`leaked`](StackUsage::leaked). The
    /// old region is freed before a larger one is allocated.
    ///
    /// If upstream had no memory for a request beside the region, but has it when the region is given back, the arena goes
    /// without a region for an iteration, so that the request is met there, and has one large enough from then on. To find
    /// that out takes at most four calls to upstream.
    ///
    /// # Errors
    /// What the upstream allocator answered. The arena is then empty and without a region; everything it allocates comes
    /// from upstream until a `reset` succeeds, for which the size is remembered.
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

    /// Makes the region at least so large that allocations of `bytes` bytes altogether fit into it, each rounded up to the
    /// alignment. Before the first iteration it takes the place of a warm-up.
    ///
    /// # Errors
    /// [`Error::TooLarge`], or what the upstream allocator answered, which is asked once the old region is given back. The
    /// region is then what it was, or none if upstream does not give that again.
    #[inline]
    pub fn reserve(&mut self, bytes: usize) -> Result<()> {
        let bytes = bytes.checked_next_multiple_of(Align::BYTES).ok_or(Error::TooLarge { operand: "stack" })?;
        if bytes <= self.capacity.get() { Ok(()) } else { self.resize_or_restore(bytes) }
    }

    /// Makes the region as small as `bytes` bytes, or as the last iteration that has ended needs it if that is more, as
    /// [`Vec::shrink_to`] keeps what the elements need. A region that is smaller already stays.
    ///
    /// The rest goes back to the upstream allocator: with a stream's pool, [`Stream::trim`](crate::Stream::trim) gives it
    /// back to the device.
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

    /// The peak is looked at before memory is given back, so that allocating need not look.
    #[inline]
    fn note_peak(&self) {
        self.peak.set(self.peak.get().max(self.in_use()));
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

    /// Asks the space for something, or changes it, and takes over what it says.
    fn place<R>(&self, what: impl FnOnce(&mut Space) -> R) -> R {
        let mut placement = self.placement.borrow_mut();
        let Placement { space, rehearsal } = &mut *placement;
        if !self.slow.get() {
            space.low.extent = self.top.get();
        }
        let answer = what(space);
        let top = space.low.extent;
        self.top.set(top);
        self.beside.set(space.beside_low().wrapping_add(self.spilled.get()));
        let slow = rehearsal.is_some() || self.capacity.get() == 0 || !space.is_plain();
        self.slow.set(slow);
        self.end.set(if slow { top } else { self.capacity.get() });
        answer
    }

    /// Gives the region back, and empties the space.
    ///
    /// # Safety
    /// - Nobody uses an allocation in the region any more.
    unsafe fn release(&self) {
        let (base, capacity) = (self.base.replace(ptr::null_mut()), self.capacity.replace(0));
        self.place(|space| space.reset(space.policy(), 0));
        if base.is_null() {
            return;
        }
        if let (Some(start), Some(layout)) = (NonNull::new(base.wrapping_sub(Align::BYTES)), Self::region(capacity)) {
            // SAFETY:
            // - Invariant 1: `start` comes from `upstream` with this layout; `base` was replaced above, so it goes back once.
            // - No allocation in it is used any more: the caller promises it.
            unsafe { self.upstream.dealloc(start, layout) }
        }
    }

    /// A region of `bytes` bytes where there is none.
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

    /// A region of `bytes` bytes in place of the one that there is.
    fn resize(&mut self, bytes: usize) -> Result<()> {
        if Self::region(bytes).is_none() {
            return Err(Error::TooLarge { operand: "stack" });
        }
        self.note_peak();
        // SAFETY:
        // - Every allocation borrows `self`, which is borrowed exclusively: none is reachable.
        unsafe { self.release() }
        self.acquire(bytes).map_err(|error| error.explained(D::NAME, bytes, || self.upstream.shortage()))
    }

    fn resize_or_restore(&mut self, bytes: usize) -> Result<()> {
        let before = self.capacity.get();
        self.resize(bytes).inspect_err(|_| {
            if self.capacity.get() == 0 {
                // That upstream does not give it again is seen in `usage`.
                self.acquire(before).unwrap_or_default();
            }
        })
    }

    /// Whether upstream has `bytes` bytes once the region is given back. If so, it stays given back.
    fn could_have(&mut self, bytes: usize) -> bool {
        let (Some(layout), capacity) = (Self::region(bytes), self.capacity.get()) else { return false };
        // SAFETY:
        // - Every allocation borrows `self`, which is borrowed exclusively: none is reachable.
        unsafe { self.release() }
        let Ok(ptr) = self.upstream.alloc(layout) else {
            // If upstream does not give the region again, the caller asks once more.
            self.acquire(capacity).unwrap_or_default();
            return false;
        };
        // SAFETY:
        // - `ptr` is fresh from `upstream` with this layout, and nothing uses it.
        unsafe { self.upstream.dealloc(ptr, layout) }
        true
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

    /// What upstream has no memory for while there is a region: the region makes way if nothing is in use, otherwise the
    /// next `iter` sees to it.
    fn alloc_for_region(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        let in_use = self.in_use();
        if in_use > 0 {
            self.refused.set(self.refused.get().max(in_use.saturating_add(layout.size())));
            return Err(AllocError::OutOfMemory);
        }
        // SAFETY:
        // - No byte is allocated: whatever was has been given back.
        unsafe { self.release() }
        // What was given back may be there only later, when the stream has passed it.
        self.upstream.alloc(layout).inspect_err(|_| self.refused.set(self.refused.get().max(layout.size())))
    }

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
// - Memory in the region is exclusively the caller's: it lies between the old and the new `top`, above everything live, or
//   where `Space` says that nothing lives.
// - It is aligned: base and all offsets are multiples of `Align` (invariants 1 and 2); larger alignments go upstream.
// - It lives until the region is freed, which needs `&mut Stack`, while the handle in every buffer borrows the stack, or that
//   no byte of it is allocated.
// - Allocations in the region are ranges of one allocation of `upstream`, which is itself not adjacent to another one.
// - Memory goes to somebody else only through a later `alloc` for the same location, in stream order on a device.
unsafe impl<D: Location, A: Allocator<D>, Align: Alignment> Allocator<D> for &Stack<D, A, Align> {
    #[inline]
    fn alloc(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        let bytes = Stack::<D, A, Align>::round(layout.size());
        let top = self.top.get();
        let room = self.end.get().wrapping_sub(top);
        // No bytes are more than any room, so that without a region `base` is not handed out.
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
        // Memory that ends at `top` lies in the region: what upstream handed out besides does not overlap it, nor end where
        // it starts (invariant 1).
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
// - Every allocation borrows the arena, so that none is reachable when it moves; the region belongs to no thread.
unsafe impl<D: AnyThread, A: Allocator<D> + Send, Align: Alignment> Send for Stack<D, A, Align> {}
// SAFETY:
// - Nothing is `sealed::Counted`: no arena is shared. Written out so that the compiler gives its reason.
unsafe impl<D: Location, A: Allocator<D>, Align: Alignment> Sync for Stack<D, A, Align> where Self: sealed::Counted {}

static_assertions::assert_impl_all!(Stack<crate::location::Host>: Send);
static_assertions::assert_not_impl_any!(Stack<crate::location::Host>: Sync);
static_assertions::assert_not_impl_any!(Stack<crate::sim::Sim<'static>>: Send, Sync);

mod sealed {
    /// Implemented for nothing: an arena counts without atomics.
    #[diagnostic::on_unimplemented(
        message = "an arena stays on one thread as long as memory of it lives, and `{Self}` is one",
        label = "counts without atomics",
        note = "an arena of its own on each thread, or memory of a default allocator: `Buffer<T, Host>` and `Buffer<T, L::Pinned>` are `Send`"
    )]
    pub trait Counted {}
}
