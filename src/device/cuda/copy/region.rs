//! Neighbouring copies that are described alike: finding them, and writing their words.

#![forbid(unsafe_code)]

use super::{
    extent::{Extent, chunks_of, division, halves, low, narrow, narrow64, wide},
    layout::{PAIRS, RAGGED, ROWS, ROWS_16, Segment, THREADS, WIDE},
};
use crate::device::Copies;

/// Fewer neighbouring copies than these are not worth a segment of their own.
const RUN: usize = 8;
/// Rows that end a region of other copies: so many that a segment for them pays.
const STREAK: usize = 64;

/// Neighbouring copies that are described alike.
#[derive(Clone, Copy, Debug)]
pub(super) struct Region {
    copies: usize,
    /// The bytes of each copy, if they are equal.
    bytes: Option<usize>,
    /// The distance from destination to destination, if it is the same.
    dst_pitch: Option<usize>,
}

/// A region, or as much of it as there is room for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fitted {
    pub(super) copies: usize,
    pub(super) words: usize,
    pub(super) segment: Segment,
    src_shift: u32,
    dst_shift: u32,
    pub(super) plain: bool,
    /// The chunks of a block, in a table of copies of different lengths.
    tile: Option<u32>,
}

impl Region {
    /// The first region of `copies`, as far as there is room for `room` words at most.
    pub(super) fn first(copies: &Copies<'_>, room: usize) -> Option<Region> {
        let (&bytes, &first) = (copies.len.first()?, copies.dst.first()?);
        let run = run(copies, room.saturating_mul(2), bytes, first.addr())?;
        if run.copies >= RUN.min(copies.len.len()) {
            return Some(run);
        }
        // Copies that are no rows, up to where rows begin.
        let (mut equal, mut streak, mut end) = (true, 0_usize, 0_usize);
        let (mut before, mut before_pitch, mut before_len) = (first.addr(), 0_usize, bytes);
        for (dst, &len) in copies.dst.iter().zip(copies.len).take(room / 2) {
            let pitch = dst.addr().wrapping_sub(before);
            streak = if pitch == before_pitch && len == before_len { streak.wrapping_add(1) } else { 0 };
            equal &= len == bytes;
            end = end.wrapping_add(1);
            if streak == STREAK {
                end = end.saturating_sub(STREAK.wrapping_add(2)).max(1);
                break;
            }
            (before, before_pitch, before_len) = (dst.addr(), pitch, len);
        }
        Some(Region { copies: end, bytes: equal.then_some(bytes), dst_pitch: None })
    }

    /// What of the region fits into `room` words and `chunks` chunks.
    pub(super) fn fit(
        &self,
        copies: &Copies<'_>,
        room: usize,
        chunks: u64,
        in_table: bool,
        groups: u32,
    ) -> Option<Fitted> {
        match self.bytes {
            Some(bytes) => self.fit_equal(copies, bytes, room, chunks),
            None => self.fit_ragged(copies, room, chunks, in_table, groups),
        }
    }

    fn fit_equal(&self, copies: &Copies<'_>, bytes: usize, room: usize, chunks: u64) -> Option<Fitted> {
        // Two 16-bit rows a word at best; decided again below, when the sources are known.
        let most = wide(bytes).div_ceil(16).wrapping_add(1);
        let by_chunks = usize::try_from(chunks.checked_div(most).unwrap_or(0)).unwrap_or(usize::MAX);
        let rows = self.dst_pitch.is_some();
        let mut count = self.copies.min(by_chunks).min(room.saturating_mul(2));
        let mut form = if rows { ROWS_16 } else { PAIRS };
        if !rows {
            count = count.min(room / 2);
        }
        let (src, dst) = loop {
            if count == 0 {
                return None;
            }
            let src = Extent::of(copies.src.get(..count)?.iter().map(|src| src.addr()))?;
            let dst = match self.dst_pitch {
                Some(pitch) => Extent::of_rows(copies.dst.first()?.addr(), pitch, count),
                None => Extent::of(copies.dst.get(..count)?.iter().map(|dst| dst.addr()))?,
            };
            let fits = src.units <= 0xffff;
            match form {
                ROWS_16 if !fits => form = ROWS,
                ROWS | PAIRS if src.units > 0xffff_fffe || (form == PAIRS && dst.units > 0xffff_fffe) => {
                    // Too far apart for one word: half as many may not be.
                    count /= 2;
                    continue;
                }
                _ => break (src, dst),
            }
            count = count.min(room);
        };
        let misaligned = match dst.alignment() {
            zeros if zeros >= 4 => 0,
            zeros => 16_u64.wrapping_sub(1 << zeros),
        };
        let row_chunks = wide(bytes).wrapping_add(misaligned).div_ceil(16);
        let pitch = self.dst_pitch.unwrap_or(0);
        let row_chunks_32 = u32::try_from(row_chunks).ok()?;
        let (magic, shift) = division(row_chunks_32);
        let words = match form {
            ROWS_16 => count.div_ceil(2),
            ROWS => count,
            _ => count.checked_mul(2)?,
        };
        let segment = Segment {
            src: wide(src.min),
            dst: wide(dst.min),
            src_pitch: 1 << src.shift,
            dst_pitch: if rows { wide(pitch) } else { 1 << dst.shift },
            bytes: wide(bytes),
            form,
            chunks: u32::try_from(row_chunks.checked_mul(wide(count))?).ok()?,
            row_chunks: row_chunks_32,
            magic,
            shift,
            old: u32::MAX,
            copies: narrow(count)?,
            ..Segment::default()
        };
        let plain = src.alignment().min(dst.alignment()).min(bytes.trailing_zeros()) >= 4;
        let (src_shift, dst_shift) = (src.shift, dst.shift);
        Some(Fitted { copies: count, words, segment, src_shift, dst_shift, plain, tile: None })
    }

    fn fit_ragged(&self, copies: &Copies<'_>, room: usize, chunks: u64, in_table: bool, groups: u32) -> Option<Fitted> {
        let tile = u64::from(THREADS.wrapping_mul(groups));
        let log = tile.trailing_zeros();
        let mut count = self.copies.min(room / 3);
        loop {
            if count == 0 {
                return None;
            }
            let src = Extent::of(copies.src.get(..count)?.iter().map(|src| src.addr()))?;
            let dst = Extent::of(copies.dst.get(..count)?.iter().map(|dst| dst.addr()))?;
            let wide_form = src.units > 0xffff_ffff || dst.units > 0xffff_ffff;
            let width = if wide_form { 5 } else { 3 };
            // How many of them fit, and the most that begin in one tile.
            let (mut all, mut fitting, mut staged, mut in_tile, mut tile_end) = (0_u64, 0_usize, 0_u32, 1_u32, tile);
            for (dst, &len) in copies.dst.iter().zip(copies.len).take(count) {
                let next = all.saturating_add(chunks_of(dst.addr(), len));
                let owners = if in_table { (next >> log).wrapping_add(2) } else { 0 };
                let words = owners.saturating_add(wide(fitting.wrapping_add(1)).saturating_mul(width));
                if next > chunks || words > wide(room) {
                    break;
                }
                if all >= tile_end {
                    tile_end = (all >> log).wrapping_add(1) << log;
                    staged = staged.max(in_tile);
                    // The copy that reaches into the tile, and the one that begins here.
                    in_tile = 1;
                }
                in_tile = in_tile.wrapping_add(1);
                (all, fitting) = (next, fitting.wrapping_add(1));
            }
            staged = staged.max(in_tile);
            if fitting == 0 {
                return None;
            }
            if fitting < count {
                // Fewer copies may be nearer to each other.
                count = fitting;
                continue;
            }
            let tiles = all.wrapping_add(tile.wrapping_sub(1)) >> log;
            let owners = if in_table { narrow64(tiles.wrapping_add(1))? } else { 0 };
            let segment = Segment {
                src: wide(src.min),
                dst: wide(dst.min),
                src_pitch: 1 << src.shift,
                dst_pitch: 1 << dst.shift,
                form: if wide_form { WIDE } else { RAGGED },
                chunks: narrow64(all)?,
                words: owners,
                old: u32::MAX,
                copies: narrow(count)?,
                // And the one that begins with the next tile.
                staged: staged.wrapping_add(1),
                ..Segment::default()
            };
            let words = usize::try_from(wide(count).saturating_mul(width).saturating_add(u64::from(owners))).ok()?;
            let tile = in_table.then_some(THREADS.wrapping_mul(groups));
            let (src_shift, dst_shift) = (src.shift, dst.shift);
            return Some(Fitted { copies: count, words, segment, src_shift, dst_shift, plain: false, tile });
        }
    }
}

impl Fitted {
    /// Writes the words of the region, which are all of `own`.
    pub(super) fn write(&self, copies: &Copies<'_>, segment: &mut Segment, own: &mut [u32]) {
        let (src, dst) = (copies.src.iter().take(self.copies), copies.dst.iter().take(self.copies));
        let (src_min, dst_min) = (segment.src, segment.dst);
        let src_unit = |src: usize| low(wide(src).wrapping_sub(src_min) >> self.src_shift);
        let dst_unit = |dst: usize| low(wide(dst).wrapping_sub(dst_min) >> self.dst_shift);
        match segment.form {
            ROWS => {
                for (word, src) in own.iter_mut().zip(src) {
                    *word = src_unit(src.addr());
                }
            }
            ROWS_16 => {
                let mut pairs = copies.src.get(..self.copies).unwrap_or_default().chunks_exact(2);
                for (word, pair) in own.iter_mut().zip(&mut pairs) {
                    if let [a, b] = pair {
                        *word = src_unit(a.addr()) | src_unit(b.addr()) << 16;
                    }
                }
                if let ([a], Some(word)) = (pairs.remainder(), own.last_mut()) {
                    *word = src_unit(a.addr());
                }
            }
            PAIRS => {
                for ((words, src), dst) in own.chunks_exact_mut(2).zip(src).zip(dst) {
                    if let [a, b] = words {
                        *a = src_unit(src.addr());
                        *b = dst_unit(dst.addr());
                    }
                }
            }
            _ => self.write_ragged(copies, segment, own),
        }
    }

    fn write_ragged(&self, copies: &Copies<'_>, segment: &Segment, own: &mut [u32]) {
        let (src_min, dst_min) = (segment.src, segment.dst);
        let owners_len = own.len().saturating_sub(self.copies.saturating_mul(if segment.form == WIDE { 5 } else { 3 }));
        let Some((owners, own)) = own.split_at_mut_checked(owners_len) else { return };
        let Some((starts, ends)) = own.split_at_mut_checked(self.copies) else { return };
        let (mut at, mut index, mut owned) = (0_u64, 0_u32, 0_usize);
        let tile = u64::from(self.tile.unwrap_or(1));
        let log = tile.trailing_zeros();
        for ((word, dst), &len) in starts.iter_mut().zip(copies.dst).zip(copies.len) {
            let chunks = chunks_of(dst.addr(), len);
            let behind = chunks.wrapping_mul(16).wrapping_sub(wide(dst.addr() & 15).wrapping_add(wide(len)));
            *word = low(at.wrapping_mul(16).wrapping_add(behind));
            at = at.wrapping_add(chunks);
            // The tiles that begin in this copy.
            let begun = usize::try_from(at.wrapping_add(tile.wrapping_sub(1)) >> log).unwrap_or(usize::MAX);
            let begun = begun.min(owners.len());
            if let Some(begin_here) = owners.get_mut(owned..begun) {
                begin_here.fill(index);
            }
            owned = begun;
            index = index.wrapping_add(1);
        }
        // What is left is the last copy.
        if let Some(left) = owners.get_mut(owned..) {
            left.fill(index.wrapping_sub(1));
        }
        let src = copies.src.iter().take(self.copies);
        let dst = copies.dst.iter().take(self.copies);
        if segment.form == WIDE {
            let Some((srcs, dsts)) = ends.split_at_mut_checked(self.copies.wrapping_mul(2)) else { return };
            for (words, src) in srcs.chunks_exact_mut(2).zip(src) {
                halves(words, src.addr());
            }
            for (words, dst) in dsts.chunks_exact_mut(2).zip(dst) {
                halves(words, dst.addr());
            }
            return;
        }
        let Some((srcs, dsts)) = ends.split_at_mut_checked(self.copies) else { return };
        for (word, src) in srcs.iter_mut().zip(src) {
            *word = low(wide(src.addr()).wrapping_sub(src_min) >> self.src_shift);
        }
        for (word, dst) in dsts.iter_mut().zip(dst) {
            *word = low(wide(dst.addr()).wrapping_sub(dst_min) >> self.dst_shift);
        }
    }
}

/// The longest run of copies of `bytes` bytes from destination `first` on, as far from each other as the first two: one at
/// least, `most` at most.
fn run(copies: &Copies<'_>, most: usize, bytes: usize, first: usize) -> Option<Region> {
    // In blocks without a branch inside.
    const BLOCK: usize = 32;
    let pitch = copies.dst.get(1).map_or(0, |second| second.addr().wrapping_sub(first));
    let count = copies.len.len().min(most);
    let (dst, len) = (copies.dst.get(..count)?, copies.len.get(..count)?);
    let (mut expected, mut found) = (first, 0_usize);
    for (dst, len) in dst.chunks(BLOCK).zip(len.chunks(BLOCK)) {
        let (mut at, mut differences) = (expected, 0);
        for (dst, &len) in dst.iter().zip(len) {
            differences |= (dst.addr() ^ at) | (len ^ bytes);
            at = at.wrapping_add(pitch);
        }
        if differences != 0 {
            let same = dst.iter().zip(len).take_while(|(dst, len)| {
                let same = dst.addr() == expected && **len == bytes;
                expected = expected.wrapping_add(pitch);
                same
            });
            found = found.wrapping_add(same.count());
            break;
        }
        (expected, found) = (at, found.wrapping_add(len.len()));
    }
    Some(Region { copies: found, bytes: Some(bytes), dst_pitch: Some(pitch) })
}
