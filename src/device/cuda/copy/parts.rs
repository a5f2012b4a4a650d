//! What of a batch is launched first on an idle stream, whose device would otherwise wait until all of it is described.
//!
//! The first part is small, and in small parameters; each next one has four times as many bytes, so that the device is busy
//! with one while the host describes the next. Behind other work the device is busy anyway, and a batch is one launch if it
//! can be: each costs the device 0.7 µs (H200).

#![forbid(unsafe_code)]

use super::{
    describe::{Most, Rest},
    extent::wide,
    layout::{FRONT, PARAMETER_WORDS},
};

/// The parts of one batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    /// The bytes of the next part; `None` if it is all that is left.
    next: Option<usize>,
    /// The bytes that are left.
    left: usize,
    /// The words that describe the next part, at most.
    words: usize,
}

/// So many copies take the host longer than a launch takes; rows of a move a quarter of it.
const FEWEST: usize = 2048;
const ROWS_A_COPY: usize = 4;

/// How many times larger each part is than the one before.
const GROWTH: usize = 4;

/// The words of the first part: those of the third smallest parameters, which are launched 1.5 µs sooner than the largest.
const FIRST_WORDS: usize = (2304 - FRONT) / 4;

impl Parts {
    /// The parts of `rest`, of which the first has about `first` bytes; all in one if the stream is not `idle`, or if the batch
    /// is not worth more. Cost: one look at each copy of a large batch.
    pub(super) fn of(rest: &Rest<'_>, is_idle: bool, first: usize) -> Parts {
        let one = Parts { next: None, left: 0, words: 0 };
        let copies = rest.copies().len.len();
        let rows = rest.count().saturating_sub(copies);
        if !is_idle || copies.saturating_add(rows / ROWS_A_COPY) < FEWEST {
            return one;
        }
        Parts { next: Some(first), left: rest.all_bytes(), words: FIRST_WORDS }.cut(one)
    }

    /// How much the next launch may take; `None` if all that it can.
    pub(super) fn next(&self) -> Option<Most> {
        Some(Most { words: self.words, chunks: chunks(self.next?) })
    }

    /// Whether a launch of so many `bytes` is worth being one: it has a quarter of what it may.
    pub(super) fn are_worth(&self, bytes: usize) -> bool {
        self.next.is_none_or(|next| bytes >= next / GROWTH)
    }

    /// How much a launch with a table may take, where parameters have no room for a part that is worth it: a third of what is
    /// left, so that the rest is described meanwhile.
    pub(super) fn in_table(&self) -> Most {
        let most = self.next.map_or(Most::ALL.chunks, |next| chunks(next.max(self.left / 3)));
        Most { chunks: most.min(Most::ALL.chunks), ..Most::ALL }
    }

    /// What follows a launch of so many `bytes`.
    pub(super) fn behind(self, bytes: impl FnOnce() -> usize) -> Parts {
        let Some(next) = self.next else { return self };
        let left = self.left.saturating_sub(bytes());
        let behind = Parts { next: Some(next.saturating_mul(GROWTH)), left, words: PARAMETER_WORDS };
        behind.cut(Parts { next: None, ..behind })
    }

    /// `one`, if a part would be most of what is left.
    fn cut(self, one: Parts) -> Parts {
        if self.next.is_some_and(|next| self.left / 2 < next) { one } else { self }
    }
}

fn chunks(bytes: usize) -> u64 {
    wide(bytes / 16)
}
