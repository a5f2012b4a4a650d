//! Sources in plain host memory that are copied to page-locked memory during the call, from where a
//! launch reads them.

use core::ptr;

use tidelock_driver::{Backend, CopyBatch, DriverError};

use super::ring::Ring;
use crate::device::cuda::stream_calls::StreamCalls;

/// Page-locked memory for the sources of a batch that are in plain host memory.
pub(super) struct Staging<B> {
    ring: Ring<B, WORDS>,
    /// The sources of the batch, in its order. Kept so that its room is used again.
    sources: Vec<*const u8>,
}

/// The words of a slot, which has the bytes of one batch.
const WORDS: usize = 16384;

/// A copy of so many bytes fits wherever its destination lies.
pub(in super::super) const MOST: usize = WORDS * 4 - GROUP;

/// What the kernel copies at once. A piece and its destination have the same distance from a
/// multiple of it.
const GROUP: usize = 16;

impl<B: Backend> Staging<B> {
    /// # Errors
    /// `OUT_OF_MEMORY` if there is no pinned memory.
    pub(super) fn new() -> Result<Self, DriverError> {
        Ok(Staging { ring: Ring::new()?, sources: Vec::new() })
    }

    /// Copies the sources that are in plain host memory; returns all sources, which can be read in
    /// stream order.
    ///
    /// `None` if they do not fit, or the host has no memory to list them.
    ///
    /// # Errors
    /// What the driver answered to an event or a wait.
    ///
    /// # Safety
    /// - Sources of `copies` from `host_from` on are valid for reads of their lengths.
    /// - All launches that read what is returned are made before this is called again.
    pub(super) unsafe fn fill<'s>(
        &'s mut self,
        stream: &StreamCalls,
        copies: &CopyBatch<'_>,
    ) -> Result<Option<&'s [*const u8]>, DriverError> {
        self.sources.clear();
        if self.sources.try_reserve(copies.src.len()).is_err() {
            return Ok(None);
        }
        let slot: &mut [u8] = bytemuck::cast_slice_mut(self.ring.next(stream)?);
        self.sources.extend_from_slice(copies.src.get(..copies.host_from).unwrap_or_default());
        let mut end = 0;
        let pieces = copies.dst.iter().zip(copies.src).zip(copies.len).skip(copies.host_from);
        for ((dst, src), &len) in pieces {
            let to = behind(end, dst.addr(), len);
            let Some(place) = slot.get_mut(to.wrapping_sub(len)..to) else { return Ok(None) };
            // SAFETY:
            // - The caller promises the source; the place has `len` bytes and is the ring's alone.
            unsafe { ptr::copy_nonoverlapping(*src, place.as_mut_ptr(), len) };
            self.sources.push(place.as_ptr());
            end = to;
        }
        Ok(Some(&self.sources))
    }

    /// As [`Ring::warm`].
    pub(super) fn warm(&mut self, stream: &StreamCalls) -> Result<(), DriverError> {
        self.ring.warm(stream)
    }

    /// Releases everything, the pinned memory only if the stream has `passed` everything.
    pub(super) fn close(&mut self, stream: &StreamCalls, passed: bool) {
        self.ring.close(stream, passed);
    }
}

/// Whether the sources of `copies` that are in plain host memory have at most `most` bytes and fit
/// into a slot.
pub(super) fn takes(copies: &CopyBatch<'_>, most: usize) -> bool {
    let mut end = 0;
    let places = copies.dst.iter().zip(copies.len).skip(copies.host_from);
    // No sum overflows: it stops at the first length that does not fit.
    let mut bytes = 0_usize;
    places.into_iter().all(|(dst, &len)| {
        bytes = bytes.saturating_add(len);
        end = behind(end, dst.addr(), len);
        bytes <= most && end <= WORDS * 4
    })
}

/// Where the piece for `len` bytes at `dst` ends, if the one before it ends at `end`.
fn behind(end: usize, dst: usize, len: usize) -> usize {
    let start = end.next_multiple_of(GROUP).saturating_add(dst % GROUP);
    start.saturating_add(len)
}
