//! The staging ring: pinned memory through which host slices are copied, so that they are read
//! during the call.

use core::{alloc::Layout, cell::Cell, num::NonZero, ptr, ptr::NonNull};

use tidelock_driver::{Backend, EventOf, HostAccess};

use super::{StreamState, record::EventRecord};
use crate::error::Result;

/// A block of pinned memory with four segments that are filled in turn.
///
/// A segment is filled again only when the stream is seen to have passed the copies out of it. An
/// event is recorded behind the last copy of each segment; it is not waited for if the stream has
/// been seen to pass a later point. A full ring waits for its oldest segment.
pub(crate) struct Ring<B: Backend> {
    /// Bytes of one segment, a multiple of `ALIGN`.
    segment: NonZero<usize>,
    /// Invariant: a piece of the pinned pool with [`layout`](Ring::layout), if there is one.
    block: Cell<Option<NonNull<u8>>>,
    /// The segment that is being filled, below `SEGMENTS`, and its filled bytes, at most `segment`.
    at: Cell<usize>,
    used: Cell<usize>,
    /// For each segment, the record behind its last copy. `None` for the segment that is being
    /// filled, and for one that was never used.
    records: [Cell<Option<EventRecord<EventOf<B>>>>; SEGMENTS],
}

// SAFETY:
// - The block is the ring's alone, and pinned memory is ordinary memory for every thread of the host
//   (P1). The cells are used by one thread at a time, because the ring is not `Sync`.
unsafe impl<B: Backend> Send for Ring<B> {}

const SEGMENTS: usize = 4;
const ALIGN: usize = 64;
/// The largest segment of which four have a layout. The pool refuses a ring of this size.
const LARGEST: usize = (1 << (usize::BITS - 3)) - ALIGN;

impl<B: Backend> Ring<B> {
    pub(crate) fn new(bytes: usize) -> Self {
        let segment = (bytes / SEGMENTS).clamp(256, LARGEST).checked_next_multiple_of(ALIGN).unwrap_or(256);
        Ring {
            segment: NonZero::new(segment).unwrap_or(NonZero::<usize>::MIN),
            block: Cell::new(None),
            at: Cell::new(0),
            used: Cell::new(0),
            records: [const { Cell::new(None) }; SEGMENTS],
        }
    }

    /// The most bytes that [`stage`](Ring::stage) accepts.
    pub(crate) fn segment(&self) -> NonZero<usize> {
        self.segment
    }

    /// The size of the pieces in which a slice of `len` bytes is uploaded, in bytes; the last piece
    /// may be smaller. It is `len` if that fits into a segment, otherwise the largest multiple of
    /// `size` that fits, or `size` if none does. Never 0.
    pub(crate) fn piece(&self, len: usize, size: usize) -> usize {
        if len <= self.segment.get() {
            return len.max(1);
        }
        let left = self.segment.get().checked_rem(size).unwrap_or(0);
        let whole = self.segment.get().wrapping_sub(left);
        if whole == 0 { size.max(1) } else { whole }
    }

    /// Copies `bytes` into the ring. The caller enqueues the copies out of it before it calls
    /// `stage` again.
    ///
    /// # Errors
    /// If there is no pinned memory, or an event or a wait fails. The ring is unchanged then.
    pub(crate) fn stage(&self, state: &StreamState<B>, bytes: &[u8]) -> Result<NonNull<u8>> {
        let block = self.block(state)?;
        if bytes.len() > self.segment.get().wrapping_sub(self.used.get()) {
            self.advance(state)?;
        }
        let room = self.segment.get().wrapping_sub(self.used.get());
        let bytes = bytes.get(..room).unwrap_or(bytes);
        let offset = self.at.get().wrapping_mul(self.segment.get()).wrapping_add(self.used.get());
        // SAFETY:
        // - `at < SEGMENTS` and `used <= segment`, so that `offset` lies in the block or one byte
        //   past it.
        let slot = unsafe { block.add(offset) };
        // SAFETY:
        // - P4: the slot is the ring's own, and the stream was seen to have passed its last use
        //   before this segment was filled (H1).
        unsafe { B::host_touches(HostAccess::write(slot.as_ptr(), bytes.len(), "filling a slot of the staging ring")) };
        // SAFETY:
        // - `bytes` fits into what is left of the segment, and the segment lies in the block.
        // - The stream has passed all copies out of this part of the ring: `advance` has seen it
        //   before the segment was filled (H1).
        // - The memory is the ring's alone, so that the two ranges do not overlap.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), slot.as_ptr(), bytes.len()) }
        let used = self.used.get().saturating_add(bytes.len()).checked_next_multiple_of(ALIGN);
        self.used.set(used.unwrap_or(usize::MAX).min(self.segment.get()));
        Ok(slot)
    }

    /// Makes the next segment the current one. Waits until the stream has passed that segment's
    /// copies, if it is not known to have.
    #[cold]
    fn advance(&self, state: &StreamState<B>) -> Result<()> {
        let next = self.at.get().wrapping_add(1) % SEGMENTS;
        if let Some(record) = self.record_of(next) {
            if !state.has_passed(&record) {
                state.wait_for_record(&record)?;
            }
            self.set_record(next, None);
            state.recycle_record(record);
        }
        let record = state.record()?;
        self.set_record(self.at.get(), Some(record));
        self.at.set(next);
        self.used.set(0);
        Ok(())
    }

    fn record_of(&self, at: usize) -> Option<EventRecord<EventOf<B>>> {
        self.records.get(at).and_then(Cell::get)
    }

    fn set_record(&self, at: usize, record: Option<EventRecord<EventOf<B>>>) {
        if let Some(slot) = self.records.get(at) {
            slot.set(record);
        }
    }

    /// The memory, which is allocated at the first call.
    ///
    /// # Errors
    /// If there is no pinned memory.
    pub(crate) fn block(&self, state: &StreamState<B>) -> Result<NonNull<u8>> {
        if let Some(block) = self.block.get() {
            return Ok(block);
        }
        let layout = self.layout();
        let block = state.pinned(layout).map_err(|error| state.pinned_refused(error, layout))?;
        self.block.set(Some(block));
        Ok(block)
    }

    fn layout(&self) -> Layout {
        let bytes = self.segment.get().saturating_mul(SEGMENTS);
        Layout::from_size_align(bytes, 1).unwrap_or(Layout::new::<u8>())
    }

    /// Frees the block if the stream has `passed` everything, and leaks it otherwise. Returns the
    /// leaked bytes.
    pub(crate) fn close(&self, passed: bool) -> usize {
        let Some(block) = self.block.take() else { return 0 };
        if !passed {
            return self.layout().size();
        }
        // SAFETY:
        // - P4: the block is the ring's own, and the stream has passed everything (H1).
        unsafe { B::host_touches(HostAccess::write(block.as_ptr(), self.layout().size(), "closing the staging ring")) };
        // SAFETY:
        // - The block comes from the pool with this layout, and is taken out of the ring here, once
        //   (P3).
        // - The stream has passed everything, and the host uses the ring only through `stage`.
        unsafe { B::PINNED.dealloc(block, self.layout()) }
        0
    }

    /// Removes the events of the ring's records.
    pub(crate) fn events(&self) -> impl Iterator<Item = EventOf<B>> {
        self.records.iter().filter_map(|record| record.take().map(|record| record.event()))
    }
}
