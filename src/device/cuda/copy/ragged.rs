//! Copies of different lengths: how many of them fit, and their words.

#![forbid(unsafe_code)]

use core::hint::select_unpredictable;

use super::{
    extent::{Extent, halves, low, wide},
    layout::{Segment, WIDE},
};
use tidelock_driver::CopyBatch;

/// Words of a copy: where its chunks start, its source and its destination.
const NARROW_WORDS: u64 = 3;
/// The same with addresses of 64 bits.
const WIDE_WORDS: u64 = 5;
/// Copies that are added up without a branch between them: fewer where they do not fit any more.
const BLOCKS: [usize; 3] = [128, 8, 1];
/// Blocks of the kernel whose owner is written at once: few copies have chunks in more.
const AT_ONCE: usize = 8;

/// What there is room for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) words: usize,
    pub(super) chunks: u64,
    /// The chunks of a block, a power of two.
    pub(super) tile: u32,
    /// Whether the words say which copy each block begins with.
    pub(super) in_table: bool,
}

/// The first copies of a batch, as many as there is room for.
#[derive(Clone, Copy, Debug)]
pub(super) struct RaggedPlan {
    pub(super) copies: usize,
    pub(super) chunks: u64,
    pub(super) is_wide: bool,
    pub(super) src: Extent,
    pub(super) dst: Extent,
}

impl Room {
    /// Whether there is room for the copies with `width` words each.
    fn is_enough_for(&self, sum: &Sum, width: u64) -> bool {
        let owners = if self.in_table { (sum.chunks >> self.tile.trailing_zeros()).wrapping_add(2) } else { 0 };
        let words = owners.saturating_add(wide(sum.copies).saturating_mul(width));
        sum.chunks <= self.chunks && words <= wide(self.words)
    }
}

impl RaggedPlan {
    /// The first of `copies`, `most` at most, as far as there is `room`; `None` if there is none for the first one.
    pub(super) fn first(copies: &CopyBatch<'_>, most: usize, room: &Room) -> Option<RaggedPlan> {
        let mut width = NARROW_WORDS;
        loop {
            let sum = Sum::of(copies, most, width, room)?;
            let (src, dst) = (copies.src.get(..sum.copies)?, copies.dst.get(..sum.copies)?);
            let src = Extent::of_bits(src.iter().map(|src| src.addr()), sum.src_bits, 0xffff_ffff)?;
            let dst = Extent::of_bits(dst.iter().map(|dst| dst.addr()), sum.dst_bits, 0xffff_ffff)?;
            let is_wide = src.units.max(dst.units) > 0xffff_ffff;
            if !is_wide || width == WIDE_WORDS {
                return Some(RaggedPlan { copies: sum.copies, chunks: sum.chunks, is_wide, src, dst });
            }
            // Fewer of them may be near enough to each other: that is seen then.
            width = WIDE_WORDS;
        }
    }

    /// The words that describe the copies.
    pub(super) fn words(&self) -> usize {
        self.copies.saturating_mul(if self.is_wide { 5 } else { 3 })
    }
}

/// Some copies, added up.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    copies: usize,
    chunks: u64,
    /// The bits that an address has and the first one has not, or the other way round.
    src_bits: usize,
    dst_bits: usize,
}

impl Sum {
    /// As many of the first `most` copies as there is room for with `width` words each; `None` if that is none.
    fn of(copies: &CopyBatch<'_>, most: usize, width: u64, room: &Room) -> Option<Sum> {
        let mut sum = Sum::default();
        for block in BLOCKS {
            while let Some(next) = sum.with(copies, block.min(most.saturating_sub(sum.copies)))
                && room.is_enough_for(&next, width)
            {
                sum = next;
            }
        }
        (sum.copies != 0).then_some(sum)
    }

    /// With the next `n` copies; `None` if there are not so many, or `n` is 0.
    #[inline]
    fn with(&self, copies: &CopyBatch<'_>, n: usize) -> Option<Sum> {
        if n == 0 {
            return None;
        }
        let mut sum = Sum { copies: self.copies.checked_add(n)?, ..*self };
        let next = self.copies..sum.copies;
        let (dst, src, len) = (copies.dst.get(next.clone())?, copies.src.get(next.clone())?, copies.len.get(next)?);
        let (first_dst, first_src) = (copies.dst.first()?.addr(), copies.src.first()?.addr());
        for ((dst, src), &len) in dst.iter().zip(src).zip(len) {
            // Copies are no longer than `LONGEST`, so that no sum of a few wraps.
            sum.chunks = sum.chunks.wrapping_add(wide(end(dst.addr(), len)).wrapping_add(15) >> 4);
            sum.src_bits |= src.addr() ^ first_src;
            sum.dst_bits |= dst.addr() ^ first_dst;
        }
        Some(sum)
    }
}

/// Writes the words of the first copies, which are all of `own`, for blocks of `tile` chunks, and says in the segment how many
/// copies a block has room for. In a table the copy that each block begins with comes first.
pub(super) fn write(copies: &CopyBatch<'_>, tile: u32, shifts: (u32, u32), segment: &mut Segment, own: &mut [u32]) {
    let Ok(count) = usize::try_from(segment.copies) else { return };
    let (Some(dst), Some(src), Some(len)) = (copies.dst.get(..count), copies.src.get(..count), copies.len.get(..count))
    else {
        return;
    };
    let is_wide = segment.form == WIDE;
    let Some(owners_len) = own.len().checked_sub(count.saturating_mul(if is_wide { 5 } else { 3 })) else { return };
    let Some((owners, own)) = own.split_at_mut_checked(owners_len) else { return };
    let Some((starts, ends)) = own.split_at_mut_checked(count) else { return };
    segment.staged = if owners.is_empty() {
        write_starts(starts, dst, len, tile, |_, _| ())
    } else {
        let mut owners = Owners { all: owners, begun: 0, tile };
        let staged = write_starts(starts, dst, len, tile, |copy, end| owners.add(copy, end));
        // Behind the last block comes the last copy.
        if let Some(last) = owners.all.last_mut() {
            *last = segment.copies.wrapping_sub(1);
        }
        staged
    };
    let Some((srcs, dsts)) = ends.split_at_mut_checked(if is_wide { count.wrapping_mul(2) } else { count }) else {
        return;
    };
    if is_wide {
        for (words, src) in srcs.as_chunks_mut::<2>().0.iter_mut().zip(src) {
            halves(words, src.addr());
        }
        for (words, dst) in dsts.as_chunks_mut::<2>().0.iter_mut().zip(dst) {
            halves(words, dst.addr());
        }
        return;
    }
    let (src_min, dst_min) = (segment.src, segment.dst);
    for (word, src) in srcs.iter_mut().zip(src) {
        *word = low(wide(src.addr()).wrapping_sub(src_min) >> shifts.0);
    }
    for (word, dst) in dsts.iter_mut().zip(dst) {
        *word = low(wide(dst.addr()).wrapping_sub(dst_min) >> shifts.1);
    }
}

/// Writes where copies start, and tells `each` its number and the bytes of all chunks up to its end; returns how many copies a
/// block has room for.
fn write_starts(starts: &mut [u32], dst: &[*mut u8], len: &[usize], tile: u32, mut each: impl FnMut(u32, u32)) -> u32 {
    // Everything in bytes: the chunks of a launch have fewer than 2^32.
    let tile = tile.wrapping_mul(16);
    let (mut at, mut before, mut copy) = (0_u32, 0_u32, 0_u32);
    // Copies that begin in a block, and the one that reaches into it.
    let (mut in_tile, mut most) = (1_u32, 0_u32);
    for ((word, dst), &len) in starts.iter_mut().zip(dst).zip(len) {
        in_tile = select_unpredictable(at ^ before < tile, in_tile.wrapping_add(1), 2);
        most = most.max(in_tile);
        let end = low(wide(end(dst.addr(), len)));
        before = at;
        at = at.wrapping_add(end.wrapping_add(15) & !15);
        // Its first chunk times 16, and what lies behind its last byte.
        *word = at.wrapping_sub(end);
        each(copy, at);
        copy = copy.wrapping_add(1);
    }
    // And the one that begins with the next block.
    most.wrapping_add(1)
}

/// Where a copy ends, from the aligned group of 16 bytes on in which its destination begins.
#[inline]
pub(super) fn end(dst: usize, len: usize) -> usize {
    (dst & 15).wrapping_add(len)
}

/// The copy that each block begins with, as they are written.
struct Owners<'w> {
    all: &'w mut [u32],
    /// How many of them are written.
    begun: usize,
    /// The chunks of a block.
    tile: u32,
}

impl Owners<'_> {
    /// Adds the blocks that begin in `copy`; the chunks up to its end have so many bytes.
    #[inline]
    fn add(&mut self, copy: u32, bytes: u32) {
        let tile = self.tile.wrapping_mul(16);
        let begun = bytes.wrapping_add(tile.wrapping_sub(1)) >> tile.trailing_zeros();
        let begun = usize::try_from(begun).unwrap_or(usize::MAX);
        // More than it takes, without a branch that depends on how many: the next copies write over it.
        match self.all.get_mut(self.begun..).and_then(<[u32]>::first_chunk_mut::<AT_ONCE>) {
            Some(few) if begun.wrapping_sub(self.begun) <= AT_ONCE => *few = [copy; AT_ONCE],
            _ => self.all.get_mut(self.begun..begun).unwrap_or_default().fill(copy),
        }
        self.begun = begun;
    }
}
