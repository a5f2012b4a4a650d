//! Sources in plain host memory, read during the call: a few bytes of them go along in the parameters of a launch.

use core::ptr;

use super::{
    extent::{halves, narrow},
    layout::{Form, Segment},
};
use tidelock_driver::CopyBatch;

/// As many bytes at most, whatever is asked: with a few copies beside them the launch has one of the smallest two sizes of
/// parameters (1 KiB in four pieces is there 1.9 µs sooner than through page-locked memory, H200).
pub(in super::super) const MOST: usize = 1024;

/// Copies out of plain host memory, of few bytes together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Payload<'a> {
    /// Invariant: the sources are valid for reads of their lengths, as long as this is used.
    copies: CopyBatch<'a>,
    /// What their bytes take.
    bytes_words: usize,
}

impl<'a> Payload<'a> {
    /// What of `copies` is read during the call, if there is any and it has at most `most` bytes.
    ///
    /// # Safety
    /// - Sources of `copies` from `host_from` on are valid for reads of their lengths, as long as the answer is used.
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

    /// The words it takes.
    pub(super) fn words(&self) -> usize {
        Form::Own.words(self.copies.len.len()).saturating_add(self.bytes_words)
    }

    /// Its segment, whose words are the first ones, for blocks of `tile` chunks: a block for each copy.
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

    /// Writes its words, which are all of `own`; `None` if there is no room for them.
    pub(super) fn write(&self, own: &mut [u32]) -> Option<()> {
        let CopyBatch { dst, src, len, .. } = self.copies;
        let mut at = Form::Own.words(len.len());
        let (told, mut room) = own.split_at_mut_checked(at)?;
        for ((words, dst), (src, &len)) in told.as_chunks_mut::<4>().0.iter_mut().zip(dst).zip(src.iter().zip(len)) {
            let count = len.div_ceil(4);
            let (place, behind) = core::mem::take(&mut room).split_at_mut_checked(count)?;
            let [address @ .., from, bytes] = words;
            halves(address, dst.addr());
            (*from, *bytes) = (narrow(at)?, narrow(len)?);
            if let Some(last) = place.last_mut() {
                // What is behind the bytes says nothing, and is the same at each launch.
                *last = 0;
            }
            // SAFETY:
            // - The source is valid for so many bytes, by the invariant of the type; the place has at least as many, and is
            //   borrowed, so that the two do not overlap.
            unsafe { ptr::copy_nonoverlapping(*src, place.as_mut_ptr().cast(), len) };
            (room, at) = (behind, at.saturating_add(count));
        }
        Some(())
    }
}
