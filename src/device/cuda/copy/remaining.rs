//! What is left of a batch, and what of it one launch takes.

#![forbid(unsafe_code)]

use super::layout::{CHUNKS, PARAMETER_WORDS};
use tidelock_driver::{CopyBatch, RowGather};

/// How many copies are looked at to see whether lengths differ.
const SAMPLE: usize = 8;

/// One launch, described.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Launch {
    /// The gathers it completes: the first ones.
    pub(super) gathers: usize,
    /// The rows it carries out of the gather behind them.
    pub(super) rows: usize,
    /// The copies it carries out: the first ones.
    pub(super) copies: usize,
    /// The segments and words that describe them.
    pub(super) segments: usize,
    pub(super) words: usize,
    /// Blocks that copy.
    pub(super) blocks: u32,
    /// Bytes of shared memory.
    pub(super) shared: u32,
    /// Whether the lengths within each segment are equal, and all addresses and lengths are
    /// multiples of 16.
    pub(super) plain: bool,
    /// Whether it has one segment, whose threads copy words or bytes.
    pub(super) unit: bool,
    /// Groups of 16 bytes that a thread copies, 2 or 4.
    pub(super) groups: u32,
}

/// What is left of a batch: gathers, of the first of which some rows may be done, and copies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remaining<'a> {
    pub(super) copies: CopyBatch<'a>,
    /// The rows of the first gather that are done.
    pub(super) row: usize,
}

impl<'a> Remaining<'a> {
    pub(super) fn new(copies: CopyBatch<'a>) -> Self {
        Remaining { copies, row: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.copies.len.is_empty() && self.copies.gathers.is_empty()
    }

    /// The first gather that is left, of which some rows may be done.
    pub(super) fn first_gather(&self) -> Option<&'a RowGather> {
        self.copies.gathers.all().first()
    }

    /// The gathers before the first whose numbers are in device memory: that one has launches of
    /// its own.
    fn gathers(&self) -> impl Iterator<Item = &'a RowGather> {
        self.copies.gathers.all().iter().take_while(|m| m.device.is_null())
    }

    /// How many rows are left before the first gather whose numbers are in device memory.
    pub(super) fn row_count(&self) -> usize {
        let rows = self.gathers().fold(0, |sum: usize, m| sum.saturating_add(m.rows));
        rows.saturating_sub(self.row)
    }

    /// How many copies are left; 0 if a gather whose numbers are in device memory comes before
    /// them.
    pub(super) fn copy_count(&self) -> usize {
        if self.copies.gathers.all().iter().all(|m| m.device.is_null()) { self.copies.len.len() } else { 0 }
    }

    /// Whether one launch's parameters certainly have no room for it, as seen without encoding.
    pub(super) fn exceeds_parameters(&self) -> bool {
        // Gathers with the same numbers share their words.
        let mut last = (None, None);
        let rows = self.gathers().fold(0_usize, |sum, m| {
            let numbers = (m.numbers, m.targets);
            let shares = core::mem::replace(&mut last, numbers) == numbers;
            if shares { sum } else { sum.saturating_add(half_words(m, m.rows)) }
        });
        let done = self.first_gather().map_or(0, |m| half_words(m, self.row));
        let most = if self.is_ragged() { PARAMETER_WORDS / 3 } else { 2 * PARAMETER_WORDS };
        rows.saturating_sub(done).saturating_add(self.copy_count()) > most
    }

    /// Whether it begins with copies of different lengths.
    pub(super) fn is_ragged(&self) -> bool {
        let mut lens = self.copies.len.iter().take(SAMPLE);
        let first = lens.next();
        self.copies.gathers.is_empty() && lens.any(|len| Some(len) != first)
    }

    /// The bytes of all rows and copies.
    pub(super) fn all_bytes(&self) -> usize {
        self.bytes_of_gathers().saturating_add(bytes_of(&self.copies, usize::MAX))
    }

    /// How many rows and copies `launch` takes.
    pub(super) fn taken(&self, launch: &Launch) -> usize {
        let gathers = self.copies.gathers.all().iter().take(launch.gathers);
        let whole = gathers.fold(0, |sum: usize, m| sum.saturating_add(m.rows));
        let done = if launch.gathers == 0 { 0 } else { self.row };
        whole.saturating_sub(done).saturating_add(launch.rows).saturating_add(launch.copies)
    }

    /// The bytes of the rows and copies that `launch` takes.
    pub(super) fn bytes(&self, launch: &Launch) -> usize {
        let behind = self.behind(launch).map_or(0, |behind| behind.bytes_of_gathers());
        self.bytes_of_gathers().saturating_sub(behind).saturating_add(bytes_of(&self.copies, launch.copies))
    }

    fn bytes_of_gathers(&self) -> usize {
        let all = self.copies.gathers.all().iter();
        let all = all.fold(0, |sum: usize, m| sum.wrapping_add(m.rows.wrapping_mul(m.bytes)));
        all.wrapping_sub(self.first_gather().map_or(0, |m| m.bytes.wrapping_mul(self.row)))
    }

    /// What is left behind `launch`.
    pub(super) fn behind(&self, launch: &Launch) -> Option<Remaining<'a>> {
        let copies = self.copies.behind(launch.copies)?.with_gathers(self.copies.gathers.behind(launch.gathers)?);
        let row = if launch.gathers == 0 { self.row.wrapping_add(launch.rows) } else { launch.rows };
        Some(Remaining { copies, row })
    }
}

/// How much of a batch a launch may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    /// The words in launch parameters: all words, or the first ones of a table.
    pub(super) words: usize,
    /// Groups of 16 bytes of the destinations.
    pub(super) chunks: u64,
}

impl Budget {
    /// The most that one launch takes.
    pub(super) const ALL: Budget = Budget { words: PARAMETER_WORDS, chunks: CHUNKS };
}

/// The fewest halves of words that describe `rows` rows of `m`: a pair has two words.
fn half_words(m: &RowGather, rows: usize) -> usize {
    if m.targets.is_some() { rows.saturating_mul(4) } else { rows }
}

/// The bytes of the first `n` copies, none of which is longer than
/// [`LONGEST`](super::layout::LONGEST).
fn bytes_of(copies: &CopyBatch<'_>, n: usize) -> usize {
    copies.len.iter().take(n).fold(0, |sum: usize, &len| sum.wrapping_add(len))
}
