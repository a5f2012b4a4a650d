//! Moves: rows of one width, described by their numbers.

#![forbid(unsafe_code)]

use super::{
    extent::{division, narrow, wide},
    layout::{ROWS, ROWS_16, Segment},
};
use crate::device::Move;

impl Move {
    /// Whether its row numbers take 16 bits each.
    pub(super) fn is_narrow(&self) -> bool {
        self.bound <= 1 << 16
    }

    /// The aligned groups of 16 bytes that a destination row touches at most.
    fn row_chunks(&self) -> u64 {
        let misaligned = match (self.dst.addr() | self.bytes).trailing_zeros() {
            zeros if zeros >= 4 => 0,
            zeros => 16_u64.wrapping_sub(1 << zeros),
        };
        wide(self.bytes).wrapping_add(misaligned).div_ceil(16)
    }
}

/// How many of `rows` rows fit into `words` words and `chunks` chunks.
pub(super) fn fitting(m: &Move, rows: usize, words: usize, chunks: u64, is_narrow: bool) -> usize {
    let by_words = if is_narrow { words.saturating_mul(2) } else { words };
    let by_chunks = chunks.checked_div(m.row_chunks()).unwrap_or(0);
    rows.min(by_words).min(usize::try_from(by_chunks).unwrap_or(usize::MAX))
}

/// The segment for `rows` rows from `row` on, but for its words, and whether it is plain.
pub(super) fn segment(m: &Move, row: usize, rows: usize, is_narrow: bool) -> Option<(Segment, bool)> {
    let row_chunks = u32::try_from(m.row_chunks()).ok()?;
    let (magic, shift) = division(row_chunks);
    let segment = Segment {
        src: wide(m.src.addr()),
        dst: wide(m.dst.addr().wrapping_add(row.wrapping_mul(m.bytes))),
        src_pitch: wide(m.bytes),
        dst_pitch: wide(m.bytes),
        bytes: wide(m.bytes),
        form: if is_narrow { ROWS_16 } else { ROWS },
        chunks: row_chunks.checked_mul(narrow(rows)?)?,
        row_chunks,
        magic,
        shift,
        old: m.old,
        second: wide(m.joining.addr()),
        copies: narrow(rows)?,
        ..Segment::default()
    };
    let all = m.src.addr() | m.dst.addr() | m.joining.addr() | m.bytes;
    Some((segment, all.trailing_zeros() >= 4))
}

/// The words that `rows` row numbers take.
pub(super) fn words(rows: usize, is_narrow: bool) -> usize {
    if is_narrow { rows.div_ceil(2) } else { rows }
}

/// Writes row numbers into `words`, which are as many as they take.
pub(super) fn write(numbers: &[u32], is_narrow: bool, words: &mut [u32]) {
    if !is_narrow {
        if words.len() == numbers.len() {
            words.copy_from_slice(numbers);
        }
        return;
    }
    let (pairs, last) = numbers.as_chunks::<2>();
    for (word, [a, b]) in words.iter_mut().zip(pairs) {
        *word = a | b << 16;
    }
    if let ([a], Some(word)) = (last, words.last_mut()) {
        *word = *a;
    }
}
