//! What of a batch is launched first on an idle stream, whose device would otherwise wait until all of it is described.
//!
//! The first part is small, and in small parameters; each next one has several times as many bytes, so that the device is busy
//! with one while the host describes the next. Behind other work the device is busy anyway, and a batch is one launch if it
//! can be: each costs the device 0.7 µs (H200).

#![forbid(unsafe_code)]

use super::{
    describe::{Most, Rest},
    extent::wide,
    layout::{Head, Segment},
};

/// The parts of one batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    /// Whether one of several is launched.
    begun: bool,
    /// The bytes of the next part; `None` if it is all that is left.
    next: Option<usize>,
    /// The bytes that are left.
    left: usize,
    /// How many times larger each part is than the one before.
    growth: usize,
}

/// How the next part is launched, and how much it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it, as is best for it.
    Whole,
    /// In parameters, if that much fits that it is [worth it](Parts::are_worth).
    Parameters(Most),
    Table(Most),
}

/// So many copies take the host longer than a launch takes; rows of a move a quarter of it.
const FEWEST: usize = 2048;
const ROWS_A_COPY: usize = 4;

/// Rows of a move are described in a tenth of the time that copies take.
const GROWTH: usize = 2;
const GROWTH_OF_ROWS: usize = 8;

/// The words of the first part: those of parameters of 8448 bytes, which are launched 0.5 µs sooner than the largest.
const FIRST_WORDS: usize = (8448 - size_of::<Head>() - size_of::<Segment>()) / 4;

impl Parts {
    /// The parts of `rest`, of which the first has about `first` bytes; all in one if the stream is not `idle`, or if the batch
    /// is not worth more. Cost: one look at each copy of a large batch.
    pub(super) fn of(rest: &Rest<'_>, is_idle: bool, first: usize) -> Parts {
        let whole = Parts { begun: false, next: None, left: 0, growth: 1 };
        let copies = rest.copies().len.len();
        let rows = rest.count().saturating_sub(copies);
        if !is_idle || copies.saturating_add(rows / ROWS_A_COPY) < FEWEST {
            return whole;
        }
        let growth = if rows > copies { GROWTH_OF_ROWS } else { GROWTH };
        let parts = Parts { next: Some(first), left: rest.all_bytes(), growth, ..whole };
        if parts.is_last() { whole } else { parts }
    }

    /// The next part.
    pub(super) fn next(&self) -> Part {
        // The parameters of a table's launch are small where its words need not be there at once: another part is at work.
        match (self.begun, self.next.map(chunks)) {
            (false, None) => Part::Whole,
            (false, Some(chunks)) => Part::Parameters(Most { words: FIRST_WORDS, chunks }),
            (true, chunks) => Part::Table(Most { words: 0, chunks: chunks.unwrap_or(Most::ALL.chunks) }),
        }
    }

    /// Whether a launch of so many `bytes` is worth being the first part.
    pub(super) fn are_worth(&self, bytes: usize) -> bool {
        self.next.is_none_or(|next| bytes >= next / 4)
    }

    /// The first part, where parameters have no room for one that is worth it: a third of all, so that the rest is described
    /// meanwhile.
    pub(super) fn first_in_table(&self) -> Most {
        let third = self.next.map_or(usize::MAX, |next| next.max(self.left / 3));
        Most { chunks: chunks(third), ..Most::ALL }
    }

    /// What follows a launch of so many `bytes`.
    pub(super) fn behind(self, bytes: impl FnOnce() -> usize) -> Parts {
        let Some(next) = self.next else { return self };
        let left = self.left.saturating_sub(bytes());
        let behind = Parts { begun: true, next: Some(next.saturating_mul(self.growth)), left, ..self };
        if behind.is_last() { Parts { next: None, ..behind } } else { behind }
    }

    /// Whether a part would be most of what is left.
    fn is_last(&self) -> bool {
        self.next.is_none_or(|next| self.left / 2 < next)
    }
}

fn chunks(bytes: usize) -> u64 {
    wide(bytes / 16).min(Most::ALL.chunks)
}
