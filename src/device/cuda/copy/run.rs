//! Neighbouring copies that are described alike: finding them, and writing their words.

#![forbid(unsafe_code)]

use core::iter;

use super::{
    extent::{Extent, division, groups, halves, low, narrow, narrow64, unit, wide},
    layout::{Form, Segment, THREADS},
    ragged::{self, Encoding, RaggedPlan, Room},
};
use tidelock_driver::CopyBatch;

/// Fewer neighbouring copies than these are not worth a segment of their own.
const RUN: usize = 8;
/// Copies each of which continues rows and that end a region of other copies: so many that a segment for them pays.
const STREAK: usize = 64;
/// So many copies of different lengths have a block each, if none has more than a block's chunks.
const MOST_EACH: usize = 32;
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
    pub(super) plain: bool,
    encoding: Encoding,
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

    /// Copies of `bytes` bytes each: the first candidate form that all of its copies are near enough for.
    fn fit_equal(&self, copies: &CopyBatch<'_>, bytes: usize, room: usize, chunks: u64) -> Option<Fitted> {
        // One chunk more than the bytes have: where destinations lie in theirs is seen below.
        let chunks_each = wide(bytes).div_ceil(16).wrapping_add(1);
        let by_chunks = usize::try_from(chunks.checked_div(chunks_each).unwrap_or(0)).unwrap_or(usize::MAX);
        let most = self.copies.min(by_chunks);
        // Rows of 16 bits have room for the most; then the longer form, and where copies are too far apart for one word, half
        // as many may not be.
        let (short, long) = match self.dst_pitch {
            Some(_) => (Some((Form::Rows16, most.min(Form::Rows16.copies(room)))), Form::Rows),
            None => (None, Form::Pairs),
        };
        let halves = iter::successors(Some(most.min(long.copies(room))), |count| Some(count / 2));
        let halves = halves.take_while(|&count| count != 0).map(|count| (long, count));
        let mut candidates = short.into_iter().chain(halves);
        let (form, count, src, dst) = candidates.find_map(|(form, count)| {
            let (src, dst) = self.extents(copies, form, count)?;
            Some((form, count, src, dst))
        })?;
        let alignment = src.alignment().min(dst.alignment()).min(bytes.trailing_zeros());
        let unit = unit(alignment, bytes, count);
        let row_chunks = match unit {
            0 => groups(dst.alignment(), bytes),
            _ => wide(bytes).checked_div(u64::from(unit))?,
        };
        let row_chunks_32 = narrow64(row_chunks)?;
        let (magic, shift) = division(row_chunks_32);
        let segment = Segment {
            src: wide(src.min),
            dst: wide(dst.min),
            src_pitch: 1 << src.shift,
            dst_pitch: self.dst_pitch.map_or(1 << dst.shift, wide),
            bytes: wide(bytes),
            form: form.code(),
            chunks: narrow64(row_chunks.checked_mul(wide(count))?)?,
            row_chunks: row_chunks_32,
            magic,
            shift,
            old: u32::MAX,
            copies: narrow(count)?,
            unit,
            ..Segment::default()
        };
        let encoding = Encoding { form, tile: 0, src_shift: src.shift, dst_shift: dst.shift };
        Some(Fitted { copies: count, words: form.words(count), segment, plain: alignment >= 4, encoding })
    }

    /// Where the sources and the destinations of the first `count` copies lie; `None` if there are none, or some are too far
    /// from each other for this form.
    fn extents(&self, copies: &CopyBatch<'_>, form: Form, count: usize) -> Option<(Extent, Extent)> {
        let units = if form == Form::Rows16 { 0xffff } else { 0xffff_fffe };
        let src = Extent::of(copies.src.get(..count)?.iter().map(|src| src.addr()), units)?;
        let dst = match self.dst_pitch {
            Some(pitch) => Extent::of_rows(copies.dst.first()?.addr(), pitch, count),
            None => Extent::of(copies.dst.get(..count)?.iter().map(|dst| dst.addr()), units)?,
        };
        let fits = src.units <= units && (form != Form::Pairs || dst.units <= units);
        fits.then_some((src, dst))
    }

    /// A block for each copy, if there are few and none is longer than a block's chunks.
    fn fit_each(&self, copies: &CopyBatch<'_>, words: usize, chunks: u64, groups: u32) -> Option<Fitted> {
        let tile = THREADS.wrapping_mul(groups);
        let own = Form::Each.words(self.copies);
        let all = tile.checked_mul(narrow(self.copies)?)?;
        if self.copies > MOST_EACH || own > words || u64::from(all) > chunks {
            return None;
        }
        let mut each = copies.dst.iter().zip(copies.len).take(self.copies);
        if !each.all(|(dst, &len)| wide(ragged::end(dst.addr(), len)).div_ceil(16) <= u64::from(tile)) {
            return None;
        }
        let copies = narrow(self.copies)?;
        let segment = Segment { form: Form::Each.code(), chunks: all, old: u32::MAX, copies, ..Segment::default() };
        let encoding = Encoding { form: Form::Each, tile, src_shift: 0, dst_shift: 0 };
        Some(Fitted { copies: self.copies, words: own, segment, plain: false, encoding })
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
        let plan = RaggedPlan::first(copies, self.copies, &Room { words, chunks, tile, in_table })?;
        let owners = if in_table { narrow64(plan.chunks.div_ceil(u64::from(tile)))?.wrapping_add(1) } else { 0 };
        let segment = Segment {
            src: wide(plan.src.min),
            dst: wide(plan.dst.min),
            src_pitch: 1 << plan.src.shift,
            dst_pitch: 1 << plan.dst.shift,
            form: plan.form.code(),
            chunks: narrow64(plan.chunks)?,
            words: owners,
            old: u32::MAX,
            copies: narrow(plan.copies)?,
            ..Segment::default()
        };
        let words = plan.words().saturating_add(usize::try_from(owners).ok()?);
        let encoding = Encoding { form: plan.form, tile, src_shift: plan.src.shift, dst_shift: plan.dst.shift };
        Some(Fitted { copies: plan.copies, words, segment, plain: false, encoding })
    }
}

impl Fitted {
    /// Writes the words of the run, which are all of `own`; where lengths differ, it completes the segment.
    pub(super) fn write(&self, copies: &CopyBatch<'_>, segment: &mut Segment, own: &mut [u32]) {
        let Encoding { form, src_shift, dst_shift, .. } = self.encoding;
        let (src, dst, len) = (copies.src, copies.dst, copies.len);
        let src = src.get(..self.copies).unwrap_or_default();
        match form {
            Form::Rows => encode_rows(src, segment.src, src_shift, own),
            Form::Rows16 => encode_rows_16(src, segment.src, src_shift, own),
            Form::Pairs => encode_pairs((src, segment.src, src_shift), (dst, segment.dst, dst_shift), own),
            Form::Each => encode_each(src, dst, len, own),
            Form::Ragged | Form::Wide => ragged::write(copies, self.encoding, segment, own),
            // These bytes are a payload.
            Form::Own => {}
        }
    }
}

/// How many units of two to `shift` an address lies behind `min`.
#[inline]
fn units_from(min: u64, shift: u32, address: usize) -> u32 {
    low(wide(address).wrapping_sub(min) >> shift)
}

/// A word for each source.
fn encode_rows(src: &[*const u8], min: u64, shift: u32, words: &mut [u32]) {
    for (word, src) in words.iter_mut().zip(src) {
        *word = units_from(min, shift, src.addr());
    }
}

/// A word for two sources; the last one may be alone.
fn encode_rows_16(src: &[*const u8], min: u64, shift: u32, words: &mut [u32]) {
    let (pairs, last) = src.as_chunks::<2>();
    for (word, [a, b]) in words.iter_mut().zip(pairs) {
        *word = units_from(min, shift, a.addr()) | units_from(min, shift, b.addr()) << 16;
    }
    if let ([a], Some(word)) = (last, words.last_mut()) {
        *word = units_from(min, shift, a.addr());
    }
}

/// A word for each source and one for its destination.
fn encode_pairs(
    (src, src_min, src_shift): (&[*const u8], u64, u32),
    (dst, dst_min, dst_shift): (&[*mut u8], u64, u32),
    words: &mut [u32],
) {
    for ((words, src), dst) in words.as_chunks_mut::<2>().0.iter_mut().zip(src).zip(dst) {
        *words = [units_from(src_min, src_shift, src.addr()), units_from(dst_min, dst_shift, dst.addr())];
    }
}

/// Two words for each source, two for its destination, and one for the bytes.
fn encode_each(src: &[*const u8], dst: &[*mut u8], len: &[usize], words: &mut [u32]) {
    for (((words, src), dst), &len) in words.as_chunks_mut::<5>().0.iter_mut().zip(src).zip(dst).zip(len) {
        let [src_words @ .., _, _, bytes] = words;
        *bytes = low(wide(len));
        halves(src_words, src.addr());
        let [_, _, dst_words @ .., _] = words;
        halves(dst_words, dst.addr());
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
