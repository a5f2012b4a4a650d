//! Runs: neighbouring copies that one form describes. Finds them, and writes their words.

#![forbid(unsafe_code)]

use core::iter;

use super::{
    extent::{Extent, division, groups, halves, low, narrow, narrow64, unit, wide},
    layout::{Form, Segment, THREADS},
    ragged::{self, Encoding, RaggedPlan, Room},
};
use tidelock_driver::CopyBatch;

/// The fewest copies of a run that is worth a segment of its own.
const RUN: usize = 8;
/// The fewest rows that end a run of other copies: so many pay for a segment.
const STREAK: usize = 64;
/// The most copies of different lengths that have a block each, if none has more chunks than a
/// block.
const MOST_EACH: usize = 32;
/// How many copies are looked at without a branch between them.
const BLOCK: usize = 32;

/// Neighbouring copies that one form describes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    copies: usize,
    /// The bytes of each copy, if they are equal.
    bytes: Option<usize>,
    /// The distance from destination to destination, if it is the same.
    dst_pitch: Option<usize>,
}

/// A run, or as much of it as fits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fitted {
    pub(super) copies: usize,
    pub(super) words: usize,
    pub(super) segment: Segment,
    pub(super) plain: bool,
    encoding: Encoding,
}

impl Run {
    /// The first run of `copies`, as far as `room` words can describe it. The `last` run of a
    /// launch takes all copies, whatever they are: otherwise launches of many short runs would have
    /// few copies each.
    pub(super) fn first(copies: &CopyBatch<'_>, room: usize, last: bool) -> Option<Run> {
        let (&bytes, &first) = (copies.len.first()?, copies.dst.first()?);
        let run = run(copies, room.saturating_mul(2), bytes, first.addr())?;
        let most = copies.len.len().min(room / 2);
        if run.copies >= if last { most } else { RUN.min(copies.len.len()) } {
            return Some(run);
        }
        // Other copies, up to where rows begin.
        let rows = if last { None } else { rows_begin(copies, most) };
        let end = rows.unwrap_or(most);
        // Block by block, without a branch inside a block.
        let mut blocks = copies.len.get(..end)?.chunks(BLOCK);
        let equal = blocks.all(|len| len.iter().fold(0, |differences, len| differences | (len ^ bytes)) == 0);
        Some(Run { copies: end, bytes: equal.then_some(bytes), dst_pitch: None })
    }

    /// As much of the run as fits into `room` words and `chunks` chunks.
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
        // Neighbours too far from each other for one word, host and device memory by turns, would
        // be a segment each.
        let is_few = |all: usize| equal.copies.saturating_mul(RUN) <= all;
        let any = if is_few(self.copies) { any().filter(|any| is_few(any.copies)) } else { None };
        Some(any.unwrap_or(equal))
    }

    /// The fit of copies of `bytes` bytes each: the first candidate, a form and a count, whose
    /// copies are near enough to each other.
    fn fit_equal(&self, copies: &CopyBatch<'_>, bytes: usize, room: usize, chunks: u64) -> Option<Fitted> {
        // One chunk more than the bytes fill: where the destinations begin in their chunks is not
        // known yet.
        let chunks_each = wide(bytes).div_ceil(16).wrapping_add(1);
        let by_chunks = usize::try_from(chunks.checked_div(chunks_each).unwrap_or(0)).unwrap_or(usize::MAX);
        let most = self.copies.min(by_chunks);
        // Row numbers of 16 bits first, as most fit. Then the longer form, with half as many copies
        // each time they are too far apart.
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

    /// Where the sources and the destinations of the first `count` copies lie; `None` if there are
    /// none, or some are too far from each other for this form.
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

    /// The fit with a block for each copy, if there are few and none has more chunks than a block.
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

    /// The fit of copies of different lengths, which blocks search for.
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
    /// Writes the words of the run, which are all of `own`; where lengths differ, it completes the
    /// segment.
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
            // A payload writes these itself.
            Form::Own => {}
        }
    }
}

/// The distance of an address from `min`, in units of `1 << shift`.
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

/// The longest run of copies of `bytes` bytes from destination `first` on whose destinations have
/// one distance: at least one copy, at most `most`.
fn run(copies: &CopyBatch<'_>, most: usize, bytes: usize, first: usize) -> Option<Run> {
    // Block by block, without a branch inside a block.
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

/// Where rows begin behind the first copy, at least `STREAK` of which continue the rows before
/// them; all among the first `most` copies.
fn rows_begin(copies: &CopyBatch<'_>, most: usize) -> Option<usize> {
    const HALF: usize = STREAK / 2;
    // Whether copy `i` is as long as the one before it, and at the same distance from it as that
    // one from its own predecessor.
    let continues = |i: usize| {
        let dst = i.checked_sub(2).and_then(|first| copies.dst.get(first..)?.first_chunk::<3>());
        let len = i.checked_sub(1).and_then(|first| copies.len.get(first..)?.first_chunk::<2>());
        dst.is_some_and(|[a, b, c]| c.addr().wrapping_sub(b.addr()) == b.addr().wrapping_sub(a.addr()))
            && len.is_some_and(|[a, b]| a == b)
    };
    // Among `STREAK` neighbours are two multiples of `HALF`: only these are looked at first.
    let multiples = (HALF..most.saturating_sub(HALF)).step_by(HALF);
    multiples.filter(|&at| continues(at) && continues(at.wrapping_add(HALF))).find_map(|at| {
        let before = (at.wrapping_sub(HALF)..at).rev().take_while(|&i| continues(i)).count();
        let from = at.wrapping_sub(before);
        let until = from.checked_add(STREAK).filter(|&until| until <= most)?;
        if !(at..until).all(continues) {
            return None;
        }
        // The first that continues follows two copies of the rows, or one if the other has another
        // length.
        let two = from.wrapping_sub(2);
        let same = copies.len.get(two..)?.first_chunk::<2>().is_some_and(|[a, b]| a == b);
        Some(if same { two } else { two.wrapping_add(1) }.max(1))
    })
}
