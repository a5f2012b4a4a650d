//! Tables: descriptions too long for launch parameters, in page-locked memory, from where the
//! kernel fetches them.

use core::{num::NonZero, ptr::NonNull};

use tidelock_driver::{Backend, DriverError};

use super::{extent::wide, layout::TABLE_WORDS, ring::Ring};
use crate::device::cuda::stream_calls::StreamCalls;

/// A ring of tables, and the device memory that they are fetched into.
pub(super) struct Tables<B> {
    ring: Ring<B, TABLE_WORDS>,
    /// Invariant: `SLOTS` times `SLOT_BYTES` of the stream's stream-ordered memory, filled with
    /// zeroes when it was allocated.
    fetched: NonNull<u8>,
    /// The number of the last launch.
    epoch: u32,
}

/// At most two launches run at once, and each fetches into a slot of its own.
const SLOTS: usize = 4;
/// Each word has the number of its launch beside it.
const SLOT_BYTES: usize = TABLE_WORDS * 8;

/// The place of the next table.
pub(super) struct Slot<'t> {
    pub(super) words: &'t mut [u32],
    /// The address of the words.
    pub(super) table: u64,
    /// The address they are fetched into.
    pub(super) fetched: u64,
    pub(super) epoch: u32,
}

impl<B: Backend> Tables<B> {
    /// # Errors
    /// If there is no pinned memory, or what the driver answered.
    pub(super) fn new(stream: &StreamCalls) -> Result<Self, DriverError> {
        let mut ring = Ring::new()?;
        let bytes = NonZero::new(SLOTS * SLOT_BYTES).unwrap_or(NonZero::<usize>::MIN);
        let fetched = stream.alloc(bytes).and_then(|fetched| {
            // SAFETY:
            // - The memory was just allocated on this stream, has so many bytes, and nothing else
            //   uses it.
            unsafe { stream.fill(fetched.as_ptr(), 0, bytes) }.map(|()| fetched).inspect_err(|_| {
                // SAFETY:
                // - The memory was just allocated on this stream, and nothing uses it. The error
                //   that is reported is the first.
                let _ = unsafe { stream.free(fetched) };
            })
        });
        match fetched {
            Ok(fetched) => Ok(Tables { ring, fetched, epoch: 0 }),
            Err(error) => {
                // Nothing has used it.
                ring.close(stream, true);
                Err(error)
            }
        }
    }

    /// The next table, for one launch on `stream`, which is made before the next call. It may wait
    /// for the stream.
    ///
    /// # Errors
    /// What the driver answered to an event or a wait. The tables are unchanged.
    pub(super) fn next(&mut self, stream: &StreamCalls) -> Result<Slot<'_>, DriverError> {
        let words = self.ring.next(stream)?;
        // Words of 2^32 launches ago may still be there.
        self.epoch = self.epoch.checked_add(1).unwrap_or(1);
        let slot = usize::try_from(self.epoch).unwrap_or(0) % SLOTS;
        let table = wide(words.as_ptr().addr());
        let fetched = wide(self.fetched.as_ptr().addr().wrapping_add(slot.wrapping_mul(SLOT_BYTES)));
        Ok(Slot { words, table, fetched, epoch: self.epoch })
    }

    /// As [`Ring::warm`].
    pub(super) fn warm(&mut self, stream: &StreamCalls) -> Result<(), DriverError> {
        self.ring.warm(stream)
    }

    /// Releases everything, the pinned memory only if the stream has `passed` everything.
    pub(super) fn close(&mut self, stream: &StreamCalls, passed: bool) {
        self.ring.close(stream, passed);
        // SAFETY:
        // - The memory comes from `alloc` of this stream, and this is the end of its only owner.
        //   All launches that use it come before. Errors are ignored.
        let _ = unsafe { stream.free(self.fetched) };
    }
}
