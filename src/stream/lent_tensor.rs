//! Copies of tensors in lent memory, which batches do not use: through device memory.

use core::mem::MaybeUninit;

use tidelock_driver::{CopyBatch, Loops, StridedCopies, StridedCopy};

use super::{DeviceLocation, StreamAlloc};
use crate::{buffer::Buffer, error::Result};

/// How many calls a copy through device memory makes beside those of its lent destination: an
/// allocation, two copies and a free.
const CALLS: usize = 4;

/// The bytes between two runs that are carried along rather than left out by another call: what a
/// bus of 16 GB/s carries in the 2 us of a call.
const GAP: usize = 32 << 10;

/// A copy of which one operand or both are lent.
pub(super) struct LentCopy {
    pub(super) copy: StridedCopy,
    /// Whether the source is lent.
    pub(super) from_lent: bool,
    /// The runs of a lent destination, at their offsets.
    pub(super) to_lent: Option<Loops>,
}

impl LentCopy {
    /// Enqueues the copy.
    ///
    /// A lent source is copied to device memory in one piece, from its first element to its last. A
    /// lent destination is copied from device memory, a call for each of its runs. Where that is not
    /// less work than a call for each run of both, or if there is no memory, the runs are copied.
    ///
    /// # Errors
    /// The driver's error. The runs before a refused one are copied.
    ///
    /// # Safety
    /// - O12, C1 to C4, for each run, and for the bytes of a lent source between its runs.
    #[inline(never)]
    pub(super) unsafe fn enqueue<L: DeviceLocation>(&self, stream: L::Handle) -> Result<()> {
        let StridedCopy { dst, src, loops, .. } = self.copy;
        let room = || -> Result<_> {
            let from = self.from_lent.then(|| room::<L>(stream, loops.src_span())).transpose()?;
            Ok((from, self.to_lent.map(|_| room::<L>(stream, loops.dst_span())).transpose()?))
        };
        let Some(Ok((mut from, mut to))) = self.pays().then(room) else {
            return loops.iter().try_for_each(|(from, to)| {
                // SAFETY:
                // - The caller promises C1 to C4 for each run.
                unsafe { stream.copy(dst.wrapping_add(to), src.wrapping_add(from), loops.run()) }
            });
        };
        let (mut through, mut into) = (src, dst);
        if let Some(from) = &mut from {
            let (room, bytes): (*mut u8, _) = (from.view_mut().as_mut_ptr().cast(), from.len());
            // SAFETY:
            // - The caller promises C1 to C4 for all bytes of the source. The memory is new, of this
            //   stream, and freed behind the copies.
            unsafe { stream.copy(room, src, bytes) }?;
            through = room;
        }
        if let Some(to) = &mut to {
            into = to.view_mut().as_mut_ptr().cast();
        }
        let strided = [StridedCopy::new(into, through, loops)];
        // SAFETY:
        // - It has no block numbers.
        let strided = unsafe { StridedCopies::new(&strided) };
        // SAFETY:
        // - O12, C1 to C4: the caller promises them for an operand that is not lent. Of the others,
        //   the memory is of this stream, as large as what the loops reach, and its source bytes are
        //   written by the copy above.
        unsafe { stream.batch(CopyBatch::default().with_strided(strided)) }?;
        let Some(runs) = self.to_lent else { return Ok(()) };
        runs.iter().try_for_each(|(_, at)| {
            // SAFETY:
            // - C1 to C4: the caller promises them for each run of the destination, of which this
            //   copies some that are adjacent. Each byte of the run at the source is written by the
            //   batch above.
            unsafe { stream.copy(dst.wrapping_add(at), into.wrapping_add(at), runs.run()) }
        })
    }

    /// Whether the way through device memory is less work.
    fn pays(&self) -> bool {
        let loops = &self.copy.loops;
        let calls = self.to_lent.map_or(0, |runs| runs.runs()).saturating_add(CALLS);
        // Those of a destination take memory, if not time.
        let span = [(self.from_lent, loops.src_span()), (self.to_lent.is_some(), loops.dst_span())];
        let span = span.iter().filter(|(lent, _)| *lent).map(|(_, span)| *span).max();
        let gaps = span.map_or(0, |span| span.saturating_sub(loops.bytes()));
        loops.runs().checked_sub(calls).is_some_and(|saved| saved != 0 && gaps <= saved.saturating_mul(GAP))
    }
}

/// Uninitialised bytes of the device.
fn room<L: DeviceLocation>(stream: L::Handle, bytes: usize) -> Result<Buffer<MaybeUninit<u8>, L>> {
    Buffer::uninit_in(bytes, StreamAlloc(stream))
}
