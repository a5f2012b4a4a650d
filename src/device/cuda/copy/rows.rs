//! Row gathers: rows of one width, described by the numbers of source rows, or by those of source
//! and destination rows.

#![forbid(unsafe_code)]

use super::{
    extent::{division, groups, narrow, unit, wide},
    layout::{Form, Segment},
};
use tidelock_driver::RowGather;

/// How row numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NumberFormat {
    /// Rows by the numbers of their sources, in 32 bits each or in 16, or pairs.
    form: Form,
    /// All are multiples of `1 << shift`, and are written in such units.
    shift: u32,
}

impl NumberFormat {
    /// 32 bits each, as they are.
    pub(super) const WIDE: NumberFormat = NumberFormat { form: Form::Rows, shift: 0 };

    /// 16 bits each where that suffices for all numbers of the gather.
    pub(super) fn of(m: &RowGather) -> NumberFormat {
        if m.targets.is_some() {
            return NumberFormat { form: Form::Pairs, shift: 0 };
        }
        if m.bound <= 1 << 16 {
            return NumberFormat { form: Form::Rows16, shift: 0 };
        }
        // Numbers of every second row, for example, in units of two. `old` must be a multiple too,
        // if rows join.
        let bits = m.bits | if m.joining.is_null() { 0 } else { m.old };
        let shift = if bits == 0 { 0 } else { bits.trailing_zeros() };
        if bits >> shift < 1 << 16 { NumberFormat { form: Form::Rows16, shift } } else { NumberFormat::WIDE }
    }

    /// The form of the segments whose words are written so.
    pub(super) const fn form(self) -> Form {
        self.form
    }

    /// Writes `numbers`, and the `targets` of pairs, into `words`, which have exactly the room.
    pub(super) fn write(self, numbers: &[u32], targets: &[u32], words: &mut [u32]) {
        if self.form == Form::Pairs {
            for ((pair, from), to) in words.as_chunks_mut::<2>().0.iter_mut().zip(numbers).zip(targets) {
                *pair = [*from, *to];
            }
            return;
        }
        if self.form == Form::Rows {
            if words.len() == numbers.len() {
                words.copy_from_slice(numbers);
            }
            return;
        }
        let (pairs, last) = numbers.as_chunks::<2>();
        if self.shift == 0 {
            for (word, [a, b]) in words.iter_mut().zip(pairs) {
                *word = a | b << 16;
            }
        } else {
            for (word, [a, b]) in words.iter_mut().zip(pairs) {
                *word = a >> self.shift | b >> self.shift << 16;
            }
        }
        if let ([a], Some(word)) = (last, words.last_mut()) {
            *word = a >> self.shift;
        }
    }
}

/// The aligned groups of 16 bytes that a destination row touches at most.
fn row_chunks(m: &RowGather) -> u64 {
    groups((m.dst.addr() | m.dst_pitch).trailing_zeros(), m.bytes)
}

/// How many of `rows` rows fit into `words` words and `chunks` chunks.
pub(super) fn fitting(m: &RowGather, rows: usize, words: usize, chunks: u64, format: NumberFormat) -> usize {
    let by_words = format.form().copies(words);
    let by_chunks = chunks.checked_div(row_chunks(m)).unwrap_or(0);
    rows.min(by_words).min(usize::try_from(by_chunks).unwrap_or(usize::MAX))
}

/// The segment for `rows` rows from `row` on, without the place of its words, and whether it is
/// plain.
pub(super) fn segment(m: &RowGather, row: usize, rows: usize, format: NumberFormat) -> Option<(Segment, bool)> {
    let all = m.src.addr() | m.dst.addr() | m.joining.addr() | m.bytes | m.src_pitch | m.dst_pitch;
    let unit = unit(all.trailing_zeros(), m.bytes, rows);
    let row_chunks = match unit {
        0 => u32::try_from(row_chunks(m)).ok()?,
        _ => narrow(m.bytes)?.checked_div(unit)?,
    };
    let (magic, shift) = division(row_chunks);
    // The words of pairs name every row, also of a part.
    let first = if format.form == Form::Pairs { 0 } else { row };
    let segment = Segment {
        src: wide(m.src.addr()),
        dst: wide(m.dst.addr().wrapping_add(first.wrapping_mul(m.dst_pitch))),
        src_pitch: wide(m.src_pitch) << format.shift,
        dst_pitch: wide(m.dst_pitch),
        bytes: wide(m.bytes),
        form: format.form().code(),
        chunks: row_chunks.checked_mul(narrow(rows)?)?,
        row_chunks,
        magic,
        shift,
        // Rounded up where nothing joins: a multiple is below both or neither.
        old: m.old.div_ceil(1 << format.shift),
        second: wide(m.joining.addr()),
        copies: narrow(rows)?,
        unit,
        ..Segment::default()
    };
    Some((segment, all.trailing_zeros() >= 4))
}
