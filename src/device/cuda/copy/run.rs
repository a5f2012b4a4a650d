//! Neighbouring copies that are described alike: finding them, and writing their words.

#![forbid(unsafe_code)]

use super::{
    extent::{Extent, division, groups, halves, low, narrow, narrow64, unit, wide},
    layout::{EACH, PAIRS, RAGGED, ROWS, ROWS_16, Segment, THREADS, WIDE},
    ragged::{self, RaggedPlan, Room},
};
use tidelock_driver::CopyBatch;

/// Fewer neighbouring copies than these are not worth a segment of their own.
const RUN: usize = 8;
/// Copies each of which continues rows and that end a region of other copies: so many that a segment for them pays.
const STREAK: usize = 64;
/// So many copies of different lengths have a block each, if none has more than a block's chunks.
const MOST_EACH: usize = 32;
/// Words that describe such a copy.
const EACH_WORDS: usize = 5;
/// Copies that are looked at without a branch between them.
const BLOCK: usize = 32;

/// Neighbouring copies that are described alike.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
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
    /// The chunks of a block, where lengths differ.
    tile: u32,
}

impl Run {
    /// The first region of `copies`, as far as there is room for `room` words at most. If it is the `last` of its launch, it is
    /// all of them, whatever they are: launches of many short runs would have few copies each.
    pub(super) fn first(copies: &CopyBatch<'_>, room: usize, last: bool) -> Option<Run> {
        let (&bytes, &first) = (copies.len.first()?, copies.dst.first()?);
        let run = run(copies, room.saturating_mul(2), bytes, first.addr())?;
        let most = copies.len.len().min(room / 2);
        if run.copies >= if last { most } else { RUN.min(copies.len.len()) } {
            return Some(run);
        }
        // Copies that are no rows, up to where rows begin.
        let rows = if last { None } else { rows_begin(copies, most) };
        let end = rows.unwrap_or(most);
        // Block by block, without a branch inside.
        let mut blocks = copies.len.get(..end)?.chunks(BLOCK);
        let equal = blocks.all(|len| len.iter().fold(0, |differences, len| differences | (len ^ bytes)) == 0);
        Some(Run { copies: end, bytes: equal.then_some(bytes), dst_pitch: None })
    }

    /// What of the region fits into `room` words and `chunks` chunks.
    pub(super) fn fit(
        &self,
        copies: &CopyBatch<'_>,
        room: usize,
        chunks: u64,
        in_table: bool,
        groups: u32,
    ) -> Option<Fitted> {
        let any = || {
            let each = self.fit_each(copies, room, chunks, groups);
            each.or_else(|| self.fit_ragged(copies, room, chunks, in_table, groups))
        };
        let Some(bytes) = self.bytes else { return any() };
        let equal = self.fit_equal(copies, bytes, room, chunks)?;
        // Neighbours that are too far from each other for a word each, host and device memory by turns, would be a segment each.
        let is_few = |all: usize| equal.copies.saturating_mul(RUN) <= all;
        let any = if is_few(self.copies) { any().filter(|any| is_few(any.copies)) } else { None };
        Some(any.unwrap_or(equal))
    }

    fn fit_equal(&self, copies: &CopyBatch<'_>, bytes: usize, room: usize, chunks: u64) -> Option<Fitted> {
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
            let units = if form == ROWS_16 { 0xffff } else { 0xffff_fffe };
            let src = Extent::of(copies.src.get(..count)?.iter().map(|src| src.addr()), units)?;
            let dst = match self.dst_pitch {
                Some(pitch) => Extent::of_rows(copies.dst.first()?.addr(), pitch, count),
                None => Extent::of(copies.dst.get(..count)?.iter().map(|dst| dst.addr()), units)?,
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
        let alignment = src.alignment().min(dst.alignment()).min(bytes.trailing_zeros());
        let unit = unit(alignment, bytes, count);
        let row_chunks = match unit {
            0 => groups(dst.alignment(), bytes),
            _ => wide(bytes).checked_div(u64::from(unit))?,
        };
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
            unit,
            ..Segment::default()
        };
        let plain = alignment >= 4;
        let (src_shift, dst_shift) = (src.shift, dst.shift);
        Some(Fitted { copies: count, words, segment, src_shift, dst_shift, plain, tile: 0 })
    }

    /// A block for each copy, if there are few and none is longer than a block's chunks.
    fn fit_each(&self, copies: &CopyBatch<'_>, words: usize, chunks: u64, groups: u32) -> Option<Fitted> {
        let tile = THREADS.wrapping_mul(groups);
        let own = self.copies.checked_mul(EACH_WORDS)?;
        let all = tile.checked_mul(narrow(self.copies)?)?;
        if self.copies > MOST_EACH || own > words || u64::from(all) > chunks {
            return None;
        }
        let mut each = copies.dst.iter().zip(copies.len).take(self.copies);
        if !each.all(|(dst, &len)| wide(ragged::end(dst.addr(), len)).div_ceil(16) <= u64::from(tile)) {
            return None;
        }
        let segment =
            Segment { form: EACH, chunks: all, old: u32::MAX, copies: narrow(self.copies)?, ..Segment::default() };
        Some(Fitted { copies: self.copies, words: own, segment, src_shift: 0, dst_shift: 0, plain: false, tile })
    }

    /// Copies that are looked for among the others of their block.
    pub(super) fn fit_ragged(
        &self,
        copies: &CopyBatch<'_>,
        words: usize,
        chunks: u64,
        in_table: bool,
        groups: u32,
    ) -> Option<Fitted> {
        let tile = THREADS.wrapping_mul(groups);
        let told = RaggedPlan::first(copies, self.copies, &Room { words, chunks, tile, in_table })?;
        let owners = if in_table { narrow64(told.chunks.div_ceil(u64::from(tile)))?.wrapping_add(1) } else { 0 };
        let segment = Segment {
            src: wide(told.src.min),
            dst: wide(told.dst.min),
            src_pitch: 1 << told.src.shift,
            dst_pitch: 1 << told.dst.shift,
            form: if told.is_wide { WIDE } else { RAGGED },
            chunks: narrow64(told.chunks)?,
            words: owners,
            old: u32::MAX,
            copies: narrow(told.copies)?,
            ..Segment::default()
        };
        let words = told.words().saturating_add(usize::try_from(owners).ok()?);
        let (src_shift, dst_shift) = (told.src.shift, told.dst.shift);
        Some(Fitted { copies: told.copies, words, segment, src_shift, dst_shift, plain: false, tile })
    }
}

impl Fitted {
    /// Writes the words of the region, which are all of `own`; where lengths differ, it completes the segment.
    pub(super) fn write(&self, copies: &CopyBatch<'_>, segment: &mut Segment, own: &mut [u32]) {
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
            EACH => {
                for (((words, src), dst), &len) in
                    own.as_chunks_mut::<EACH_WORDS>().0.iter_mut().zip(src).zip(dst).zip(copies.len)
                {
                    let [src_words @ .., _, _, bytes] = words;
                    *bytes = low(wide(len));
                    halves(src_words, src.addr());
                    let [_, _, dst_words @ .., _] = words;
                    halves(dst_words, dst.addr());
                }
            }
            _ => ragged::write(copies, self.tile, (self.src_shift, self.dst_shift), segment, own),
        }
    }
}

/// The longest run of copies of `bytes` bytes from destination `first` on, as far from each other as the first two: one at
/// least, `most` at most.
fn run(copies: &CopyBatch<'_>, most: usize, bytes: usize, first: usize) -> Option<Run> {
    // In blocks without a branch inside.
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
    Some(Run { copies: found, bytes: Some(bytes), dst_pitch: Some(pitch) })
}

/// Where rows begin, behind the first copy, of which `STREAK` continue those before them; all of them among the first `most`
/// copies.
fn rows_begin(copies: &CopyBatch<'_>, most: usize) -> Option<usize> {
    const HALF: usize = STREAK / 2;
    // Whether a copy is as long as the one before it, and as far behind it as that one behind the one before.
    let continues = |i: usize| {
        let dst = i.checked_sub(2).and_then(|first| copies.dst.get(first..)?.first_chunk::<3>());
        let len = i.checked_sub(1).and_then(|first| copies.len.get(first..)?.first_chunk::<2>());
        dst.is_some_and(|[a, b, c]| c.addr().wrapping_sub(b.addr()) == b.addr().wrapping_sub(a.addr()))
            && len.is_some_and(|[a, b]| a == b)
    };
    // Among so many neighbours two are multiples of half as many: only these are looked at before all of them are.
    let multiples = (HALF..most.saturating_sub(HALF)).step_by(HALF);
    multiples.filter(|&at| continues(at) && continues(at.wrapping_add(HALF))).find_map(|at| {
        let before = (at.wrapping_sub(HALF)..at).rev().take_while(|&i| continues(i)).count();
        let from = at.wrapping_sub(before);
        let until = from.checked_add(STREAK).filter(|&until| until <= most)?;
        if !(at..until).all(continues) {
            return None;
        }
        // Two copies come before the first that continues them, or one if the other is not as long.
        let two = from.wrapping_sub(2);
        let same = copies.len.get(two..)?.first_chunk::<2>().is_some_and(|[a, b]| a == b);
        Some(if same { two } else { two.wrapping_add(1) }.max(1))
    })
}
