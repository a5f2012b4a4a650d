//! Sources in plain host memory whose few bytes are copied into the parameters of a launch during
//! the call.

use core::ptr;

use super::{
    extent::{halves, narrow},
    layout::{Form, Segment},
};
use tidelock_driver::CopyBatch;

/// The most bytes of a payload, whatever the tuning says: with a few copies beside it, the launch
/// has one of the two smallest sizes of parameters (1 KiB in four pieces arrives 1.9 µs sooner than
/// through page-locked memory, H200).
pub(in super::super) const MOST: usize = 1024;

/// Copies out of plain host memory that have few bytes together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Payload<'a> {
    /// Invariant: the sources are valid for reads of their lengths, as long as this is used.
    copies: CopyBatch<'a>,
    /// The words that their bytes take.
    bytes_words: usize,
}

impl<'a> Payload<'a> {
    /// The copies of `copies` that are read during the call, if there are any and they have at most
    /// `most` bytes.
    ///
    /// # Safety
    /// - Sources of `copies` from `host_from` on are valid for reads of their lengths, as long as
    ///   the answer is used.
    pub(super) unsafe fn of(copies: &CopyBatch<'a>, most: usize) -> Option<Payload<'a>> {
        let own = copies.behind(copies.host_from)?;
        let (mut bytes, mut bytes_words) = (0_usize, 0_usize);
        let fits = own.len.iter().all(|&len| {
            bytes = bytes.saturating_add(len);
            bytes_words = bytes_words.wrapping_add(len.div_ceil(4));
            bytes <= most.min(MOST)
        });
        (fits && bytes != 0).then_some(Payload { copies: own, bytes_words })
    }

    /// The words that describe the copies, and those of their bytes.
    pub(super) fn words(&self) -> usize {
        Form::Own.words(self.copies.len.len()).saturating_add(self.bytes_words)
    }

    /// The segment, whose words are the first ones: a block of `tile` chunks for each copy.
    pub(super) fn segment(&self, tile: u32) -> Option<Segment> {
        let copies = narrow(self.copies.len.len())?;
        Some(Segment {
            form: Form::Own.code(),
            copies,
            chunks: copies.checked_mul(tile)?,
            old: u32::MAX,
            ..Segment::default()
        })
    }

    /// Writes the words, which are all of `own`; `None` if they do not fit.
    pub(super) fn write(&self, own: &mut [u32]) -> Option<()> {
        let CopyBatch { dst, src, len, .. } = self.copies;
        let mut at = Form::Own.words(len.len());
        let (described, mut room) = own.split_at_mut_checked(at)?;
        for ((words, dst), (src, &len)) in described.as_chunks_mut::<4>().0.iter_mut().zip(dst).zip(src.iter().zip(len))
        {
            let count = len.div_ceil(4);
            let (place, behind) = core::mem::take(&mut room).split_at_mut_checked(count)?;
            let [address @ .., from, bytes] = words;
            halves(address, dst.addr());
            (*from, *bytes) = (narrow(at)?, narrow(len)?);
            if let Some(last) = place.last_mut() {
                // The unused bytes of the last word are the same at each launch, so graphs match.
                *last = 0;
            }
            // SAFETY:
            // - The source is valid for so many bytes, by the invariant of the type; the place has
            //   at least as many, and is borrowed, so that the two do not overlap.
            unsafe { ptr::copy_nonoverlapping(*src, place.as_mut_ptr().cast(), len) };
            (room, at) = (behind, at.saturating_add(count));
        }
        Some(())
    }
}
