//! Tables: descriptions too long for launch parameters, in page-locked memory that the kernel fetches from.

use core::{alloc::Layout, num::NonZero, ptr::NonNull};

use super::{extent::wide, layout::TABLE_WORDS};
use crate::device::{
    Backend, Queue,
    code::DriverError,
    cuda::{
        CudaBackend,
        queue::{CudaQueue, Event},
    },
};

/// A ring of tables, and the device memory that they are fetched into.
///
/// A quarter of the ring is filled again only when the stream is seen to have passed the event that was recorded when it
/// was left.
pub(super) struct Tables {
    /// Invariant: a piece of the pinned pool with [`layout`].
    ring: NonNull<u32>,
    /// Invariant: `SLOTS` times `SLOT_BYTES` of the queue's stream-ordered memory, which were filled with zeroes once.
    fetched: NonNull<u8>,
    /// The table that is filled next, below `TABLES`.
    at: usize,
    /// Recorded when each quarter was left; `None` for one that nothing reads.
    left: [Option<Event>; QUARTERS],
    /// The number of the last launch.
    epoch: u32,
}

const QUARTERS: usize = 4;
const TABLES: usize = 32;
const TABLE_BYTES: usize = TABLE_WORDS * 4;
/// Two launches at most work at once, and each fetches into a slot of its own.
const SLOTS: usize = 4;
/// Each word with the number of its launch.
const SLOT_BYTES: usize = TABLE_WORDS * 8;

/// Where the next table is.
pub(super) struct Slot<'t> {
    pub(super) words: &'t mut [u32],
    /// The address of the words.
    pub(super) table: u64,
    /// The address they are fetched into.
    pub(super) fetched: u64,
    pub(super) epoch: u32,
}

impl Tables {
    /// # Errors
    /// If pinned or device memory cannot be had.
    pub(super) fn new(queue: &CudaQueue) -> Result<Tables, DriverError> {
        let no_memory = DriverError::new("cuMemHostAlloc", crate::device::code::Code::OUT_OF_MEMORY);
        let ring = CudaBackend::pinned_pool().alloc(layout()).map_err(|_| no_memory)?;
        let bytes = NonZero::new(SLOTS * SLOT_BYTES).unwrap_or(NonZero::<usize>::MIN);
        let fetched = queue.alloc(bytes).and_then(|fetched| {
            // SAFETY:
            // - The memory was just allocated on this queue, has so many bytes, and nothing else uses it.
            unsafe { queue.fill(fetched.as_ptr(), 0, bytes) }.map(|()| fetched).inspect_err(|_| {
                // SAFETY:
                // - The memory was just allocated on this queue, and nothing uses it. There is nobody to tell a failure.
                let _ = unsafe { queue.free(fetched) };
            })
        });
        match fetched {
            Ok(fetched) => Ok(Tables { ring: ring.cast(), fetched, at: 0, left: [None; QUARTERS], epoch: 0 }),
            Err(error) => {
                // SAFETY:
                // - The memory comes from the pool with this layout, and nothing has used it.
                unsafe { CudaBackend::pinned_pool().dealloc(ring, layout()) }
                Err(error)
            }
        }
    }

    /// The next table, for one launch on `queue`, which is made before this is called again. Where a quarter of the ring
    /// ends it may have to wait for the stream.
    ///
    /// # Errors
    /// If an event or a wait cannot be had; the ring is as it was.
    pub(super) fn next(&mut self, queue: &CudaQueue) -> Result<Slot<'_>, DriverError> {
        const PER_QUARTER: usize = TABLES / QUARTERS;
        if self.at.is_multiple_of(PER_QUARTER) {
            let (entered, before) =
                (self.at / PER_QUARTER, (self.at / PER_QUARTER).wrapping_add(QUARTERS - 1) % QUARTERS);
            let event = match self.left.get(entered).copied().flatten() {
                Some(event) => {
                    if !queue.query(event)? {
                        queue.observe(event)?;
                    }
                    event
                }
                None => queue.create_event()?,
            };
            // The quarter before was left just now, if anything was ever in it.
            if self.epoch != 0 {
                if let Err(error) = queue.record(event) {
                    // An event of the ring stays there: it was passed. One that was just made is given back.
                    if self.left.get(entered).copied().flatten().is_none() {
                        queue.destroy_event(event);
                    }
                    return Err(error);
                }
                if let Some(left) = self.left.get_mut(entered) {
                    *left = None;
                }
                if let Some(left) = self.left.get_mut(before) {
                    *left = Some(event);
                }
            } else {
                queue.destroy_event(event);
            }
        }
        // Words of 2^32 launches ago may still be there.
        self.epoch = self.epoch.checked_add(1).unwrap_or(1);
        let slot = usize::try_from(self.epoch).unwrap_or(0) % SLOTS;
        let offset = self.at.wrapping_mul(TABLE_WORDS);
        self.at = self.at.wrapping_add(1) % TABLES;
        // SAFETY:
        // - `at` was below `TABLES`, so that the table lies in the ring.
        let words = unsafe { self.ring.add(offset) };
        let table = wide(words.as_ptr().addr());
        let fetched = wide(self.fetched.as_ptr().addr().wrapping_add(slot.wrapping_mul(SLOT_BYTES)));
        // SAFETY:
        // - The table lies in the ring, is aligned, and was written by the pool or by an earlier use of it: every bit
        //   pattern is a word.
        // - The device has passed all launches that read this part of the ring: it was seen to before the quarter was
        //   entered. The host uses it through this borrow only.
        let words = unsafe { core::slice::from_raw_parts_mut(words.as_ptr(), TABLE_WORDS) };
        Ok(Slot { words, table, fetched, epoch: self.epoch })
    }

    /// Gives everything back, the pinned memory only if the stream has `passed` everything.
    pub(super) fn close(&mut self, queue: &CudaQueue, passed: bool) {
        for event in self.left.iter_mut().filter_map(Option::take) {
            queue.destroy_event(event);
        }
        // SAFETY:
        // - The memory comes from `alloc` of this queue, and this is the end of its only owner. All launches that use it
        //   come before. There is nobody to tell a failure.
        let _ = unsafe { queue.free(self.fetched) };
        if passed {
            // SAFETY:
            // - The ring comes from the pool with this layout, and this is the end of its only owner.
            // - The device has passed everything.
            unsafe { CudaBackend::pinned_pool().dealloc(self.ring.cast(), layout()) }
        }
    }
}

fn layout() -> Layout {
    Layout::from_size_align(TABLES * TABLE_BYTES, 256).unwrap_or(Layout::new::<u8>())
}
