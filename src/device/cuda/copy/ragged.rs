//! Copies of different lengths: how many of them fit, and their words.

#![forbid(unsafe_code)]

use core::hint::select_unpredictable;

use super::{
    extent::{Extent, halves, low, wide},
    layout::{Form, Segment},
};
use tidelock_driver::CopyBatch;

/// How many copies are added at once, without a branch between them; fewer where the room ends.
const BLOCKS: [usize; 3] = [128, 8, 1];
/// How many owners are written at once: few copies have chunks in more blocks.
const AT_ONCE: usize = 8;

/// The room for a segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) words: usize,
    pub(super) chunks: u64,
    /// The chunks of a block, a power of two.
    pub(super) tile: u32,
    /// Whether the words have owners: the copy that each block begins with.
    pub(super) in_table: bool,
}

/// The first copies of a batch, as many as fit.
#[derive(Clone, Copy, Debug)]
pub(super) struct RaggedPlan {
    pub(super) copies: usize,
    pub(super) chunks: u64,
    /// [`Form::Ragged`] or [`Form::Wide`].
    pub(super) form: Form,
    pub(super) src: Extent,
    pub(super) dst: Extent,
}

impl Room {
    /// Whether the copies fit in this form.
    fn is_enough_for(&self, sum: &Sum, form: Form) -> bool {
        let owners = if self.in_table { (sum.chunks >> self.tile.trailing_zeros()).wrapping_add(2) } else { 0 };
        let words = owners.saturating_add(wide(form.words(sum.copies)));
        sum.chunks <= self.chunks && words <= wide(self.words)
    }
}

impl RaggedPlan {
    /// The first of `copies`, at most `most`, that fit into `room`; `None` if the first one does
    /// not.
    ///
    /// In [`Form::Ragged`] if they are near enough to each other. If not, as many as fit in
    /// [`Form::Wide`]; these are fewer, and may be near enough after all.
    pub(super) fn first(copies: &CopyBatch<'_>, most: usize, room: &Room) -> Option<RaggedPlan> {
        let plan = RaggedPlan::of(copies, Sum::of(copies, most, Form::Ragged, room)?)?;
        match plan.form {
            Form::Wide => RaggedPlan::of(copies, Sum::of(copies, most, Form::Wide, room)?),
            _ => Some(plan),
        }
    }

    fn of(copies: &CopyBatch<'_>, sum: Sum) -> Option<RaggedPlan> {
        let (src, dst) = (copies.src.get(..sum.copies)?, copies.dst.get(..sum.copies)?);
        let src = Extent::of_bits(src.iter().map(|src| src.addr()), sum.src_bits, 0xffff_ffff)?;
        let dst = Extent::of_bits(dst.iter().map(|dst| dst.addr()), sum.dst_bits, 0xffff_ffff)?;
        let form = if src.units.max(dst.units) > 0xffff_ffff { Form::Wide } else { Form::Ragged };
        Some(RaggedPlan { copies: sum.copies, chunks: sum.chunks, form, src, dst })
    }

    /// The words that describe the copies, without the owners.
    pub(super) fn words(&self) -> usize {
        self.form.words(self.copies)
    }
}

/// The sums over some copies.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    copies: usize,
    chunks: u64,
    /// The bits in which any address differs from the first.
    src_bits: usize,
    dst_bits: usize,
}

impl Sum {
    /// The first copies, at most `most`, that fit in this form; `None` if none does.
    fn of(copies: &CopyBatch<'_>, most: usize, form: Form, room: &Room) -> Option<Sum> {
        let mut sum = Sum::default();
        for block in BLOCKS {
            while let Some(next) = sum.with(copies, block.min(most.saturating_sub(sum.copies)))
                && room.is_enough_for(&next, form)
            {
                sum = next;
            }
        }
        (sum.copies != 0).then_some(sum)
    }

    /// The sums with the next `n` copies; `None` if there are fewer, or `n` is 0.
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
            // No copy is longer than `LONGEST`, so these sums do not wrap.
            sum.chunks = sum.chunks.wrapping_add(wide(end(dst.addr(), len)).wrapping_add(15) >> 4);
            sum.src_bits |= src.addr() ^ first_src;
            sum.dst_bits |= dst.addr() ^ first_dst;
        }
        Some(sum)
    }
}

/// How the words of a segment whose copies have different lengths are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Encoding {
    /// [`Form::Ragged`] or [`Form::Wide`].
    pub(super) form: Form,
    /// The chunks of a block.
    pub(super) tile: u32,
    /// The units of addresses are two to the power of these.
    pub(super) src_shift: u32,
    pub(super) dst_shift: u32,
}

/// Writes the words of the first copies, which are all of `own`, and sets in the segment how many
/// copies a block has room for. In a table the copy that each block begins with comes first.
pub(super) fn write(copies: &CopyBatch<'_>, encoding: Encoding, segment: &mut Segment, own: &mut [u32]) {
    let Ok(count) = usize::try_from(segment.copies) else { return };
    let (Some(dst), Some(src), Some(len)) = (copies.dst.get(..count), copies.src.get(..count), copies.len.get(..count))
    else {
        return;
    };
    let Some(owners) = own.len().checked_sub(encoding.form.words(count)) else { return };
    let Some((owners, own)) = own.split_at_mut_checked(owners) else { return };
    let Some((starts, addresses)) = own.split_at_mut_checked(count) else { return };
    segment.staged = if owners.is_empty() {
        write_starts(starts, dst, len, encoding.tile, |_, _| ())
    } else {
        write_owners(owners, starts, dst, len, encoding.tile)
    };
    let Some((srcs, dsts)) = addresses.split_at_mut_checked(addresses.len() / 2) else { return };
    if encoding.form == Form::Wide {
        write_addresses(srcs, src.iter().map(|src| src.addr()));
        write_addresses(dsts, dst.iter().map(|dst| dst.addr()));
    } else {
        write_units(srcs, src.iter().map(|src| src.addr()), segment.src, encoding.src_shift);
        write_units(dsts, dst.iter().map(|dst| dst.addr()), segment.dst, encoding.dst_shift);
    }
}

/// Writes the copies that blocks begin with and where copies start; returns how many copies a block
/// has room for.
fn write_owners(owners: &mut [u32], starts: &mut [u32], dst: &[*mut u8], len: &[usize], tile: u32) -> u32 {
    let last_copy = u32::try_from(starts.len()).unwrap_or(u32::MAX).wrapping_sub(1);
    let mut owners = Owners { all: owners, begun: 0, tile };
    let staged = write_starts(starts, dst, len, tile, |copy, end| owners.add(copy, end));
    // The last copy stands behind the last block's.
    if let Some(last) = owners.all.last_mut() {
        *last = last_copy;
    }
    staged
}

/// Writes two words for each address.
fn write_addresses(words: &mut [u32], addresses: impl Iterator<Item = usize>) {
    for (words, address) in words.as_chunks_mut::<2>().0.iter_mut().zip(addresses) {
        halves(words, address);
    }
}

/// Writes one word for each address: its distance from `min` in units of two to `shift`.
fn write_units(words: &mut [u32], addresses: impl Iterator<Item = usize>, min: u64, shift: u32) {
    for (word, address) in words.iter_mut().zip(addresses) {
        *word = low(wide(address).wrapping_sub(min) >> shift);
    }
}

/// Writes where copies start, and calls `each` with the number of each and the bytes of all chunks
/// up to its end; returns how many copies a block has room for.
fn write_starts(starts: &mut [u32], dst: &[*mut u8], len: &[usize], tile: u32, mut each: impl FnMut(u32, u32)) -> u32 {
    // Everything in bytes: the chunks of a launch have fewer than 2^32 bytes.
    let tile = tile.wrapping_mul(16);
    let (mut at, mut before, mut copy) = (0_u32, 0_u32, 0_u32);
    // The copies that begin in the current block, plus the one that reaches into it; and the most
    // of any block.
    let (mut in_tile, mut most) = (1_u32, 0_u32);
    for ((word, dst), &len) in starts.iter_mut().zip(dst).zip(len) {
        in_tile = select_unpredictable(at ^ before < tile, in_tile.wrapping_add(1), 2);
        most = most.max(in_tile);
        let end = low(wide(end(dst.addr(), len)));
        before = at;
        at = at.wrapping_add(end.wrapping_add(15) & !15);
        // The first chunk times 16, plus the bytes behind the copy in its last chunk.
        *word = at.wrapping_sub(end);
        each(copy, at);
        copy = copy.wrapping_add(1);
    }
    // Plus the one that begins with the next block.
    most.wrapping_add(1)
}

/// The end of a copy, counted from the aligned group of 16 bytes in which its destination begins.
#[inline]
pub(super) fn end(dst: usize, len: usize) -> usize {
    (dst & 15).wrapping_add(len)
}

/// Writes the owners: the copy that each block begins with.
struct Owners<'w> {
    all: &'w mut [u32],
    /// How many of them are written.
    begun: usize,
    /// The chunks of a block.
    tile: u32,
}

impl Owners<'_> {
    /// Adds the blocks that begin in `copy`, which ends `bytes` bytes behind the first chunk.
    #[inline]
    fn add(&mut self, copy: u32, bytes: u32) {
        let tile = self.tile.wrapping_mul(16);
        let begun = bytes.wrapping_add(tile.wrapping_sub(1)) >> tile.trailing_zeros();
        let begun = usize::try_from(begun).unwrap_or(usize::MAX);
        // Writes more owners than begin here, without a branch on their number; the next copies
        // overwrite them.
        match self.all.get_mut(self.begun..).and_then(<[u32]>::first_chunk_mut::<AT_ONCE>) {
            Some(few) if begun.wrapping_sub(self.begun) <= AT_ONCE => *few = [copy; AT_ONCE],
            _ => self.all.get_mut(self.begun..begun).unwrap_or_default().fill(copy),
        }
        self.begun = begun;
    }
}
