//! What is left of a batch, and what of it one launch takes.

#![forbid(unsafe_code)]

use super::layout::{CHUNKS, PARAMETER_WORDS};
use tidelock_driver::{CopyBatch, RowGather};

/// So many copies tell whether a batch has different lengths.
const SAMPLE: usize = 8;

/// One launch, described.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Launch {
    /// How many moves it finishes: the first ones.
    pub(super) moves: usize,
    /// How many rows it carries out of the move behind them.
    pub(super) rows: usize,
    /// How many copies it carries out: the first ones.
    pub(super) copies: usize,
    /// How many segments and words describe them.
    pub(super) segments: usize,
    pub(super) words: usize,
    /// Blocks that copy.
    pub(super) blocks: u32,
    /// Bytes of shared memory.
    pub(super) shared: u32,
    /// Whether all lengths of a segment are equal and everything is a multiple of 16.
    pub(super) plain: bool,
    /// Whether it has one segment, whose threads copy words or bytes.
    pub(super) unit: bool,
    /// Groups of 16 bytes that a thread copies, 2 or 4.
    pub(super) groups: u32,
}

/// What is left of a batch: some moves, of the first of which some rows are done, and some copies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remaining<'a> {
    pub(super) copies: CopyBatch<'a>,
    /// The rows of the first move that are done.
    pub(super) row: usize,
}

impl<'a> Remaining<'a> {
    pub(super) fn new(copies: CopyBatch<'a>) -> Self {
        Remaining { copies, row: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.copies.len.is_empty() && self.copies.gathers.is_empty()
    }

    /// The first move that is left, of which some rows may be done.
    pub(super) fn first_move(&self) -> Option<&'a RowGather> {
        self.copies.gathers.all().first()
    }

    /// The moves up to the first whose numbers are in device memory: it has launches of its own.
    fn moves(&self) -> impl Iterator<Item = &'a RowGather> {
        self.copies.gathers.all().iter().take_while(|m| m.device.is_null())
    }

    /// How many rows are left, up to the first move whose numbers are in device memory.
    pub(super) fn row_count(&self) -> usize {
        let rows = self.moves().fold(0, |sum: usize, m| sum.saturating_add(m.rows));
        rows.saturating_sub(self.row)
    }

    /// How many copies are left, if no move whose numbers are in device memory comes before them.
    pub(super) fn copy_count(&self) -> usize {
        if self.copies.gathers.all().iter().all(|m| m.device.is_null()) { self.copies.len.len() } else { 0 }
    }

    /// Whether it is seen without describing it that one launch's parameters have no room for it.
    pub(super) fn exceeds_parameters(&self) -> bool {
        // Moves with the same numbers share the words for them.
        let mut last = None;
        let rows = self.moves().fold(0_usize, |sum, m| {
            let shares = core::mem::replace(&mut last, m.numbers) == m.numbers;
            if shares { sum } else { sum.saturating_add(m.rows) }
        });
        let most = if self.is_ragged() { PARAMETER_WORDS / 3 } else { 2 * PARAMETER_WORDS };
        rows.saturating_sub(self.row).saturating_add(self.copy_count()) > most
    }

    /// Whether it begins with copies of different lengths.
    pub(super) fn is_ragged(&self) -> bool {
        let mut lens = self.copies.len.iter().take(SAMPLE);
        let first = lens.next();
        self.copies.gathers.is_empty() && lens.any(|len| Some(len) != first)
    }

    /// The bytes of all rows and copies.
    pub(super) fn all_bytes(&self) -> usize {
        self.bytes_of_moves().saturating_add(bytes_of(&self.copies, usize::MAX))
    }

    /// How many rows and copies `launch` takes.
    pub(super) fn taken(&self, launch: &Launch) -> usize {
        let moves = self.copies.gathers.all().iter().take(launch.moves);
        let whole = moves.fold(0, |sum: usize, m| sum.saturating_add(m.rows));
        let done = if launch.moves == 0 { 0 } else { self.row };
        whole.saturating_sub(done).saturating_add(launch.rows).saturating_add(launch.copies)
    }

    /// The bytes of the rows and copies that `launch` takes.
    pub(super) fn bytes(&self, launch: &Launch) -> usize {
        let behind = self.behind(launch).map_or(0, |behind| behind.bytes_of_moves());
        self.bytes_of_moves().saturating_sub(behind).saturating_add(bytes_of(&self.copies, launch.copies))
    }

    fn bytes_of_moves(&self) -> usize {
        let all = self.copies.gathers.all().iter();
        let all = all.fold(0, |sum: usize, m| sum.wrapping_add(m.rows.wrapping_mul(m.bytes)));
        all.wrapping_sub(self.first_move().map_or(0, |m| m.bytes.wrapping_mul(self.row)))
    }

    /// What is left when `launch` is made.
    pub(super) fn behind(&self, launch: &Launch) -> Option<Remaining<'a>> {
        let copies = self.copies.behind(launch.copies)?.with_gathers(self.copies.gathers.behind(launch.moves)?);
        let row = if launch.moves == 0 { self.row.wrapping_add(launch.rows) } else { launch.rows };
        Some(Remaining { copies, row })
    }
}

/// How much of a batch a launch may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    /// Words in launch parameters, at most all that there are: all of them, or the first ones of a table.
    pub(super) words: usize,
    /// Groups of 16 bytes of the destinations.
    pub(super) chunks: u64,
}

impl Budget {
    /// As much as one launch can take.
    pub(super) const ALL: Budget = Budget { words: PARAMETER_WORDS, chunks: CHUNKS };
}

/// The bytes of the first `n` copies, none of which is longer than [`LONGEST`](super::layout::LONGEST).
fn bytes_of(copies: &CopyBatch<'_>, n: usize) -> usize {
    copies.len.iter().take(n).fold(0, |sum: usize, &len| sum.wrapping_add(len))
}
