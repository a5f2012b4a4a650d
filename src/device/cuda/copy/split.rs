//! The first part of a large batch on an idle stream, whose device would otherwise wait until all of it is described.
//!
//! The device is busy with it while the host describes the rest. Behind other work the device is busy anyway, and a batch is one
//! launch if it can be: each costs the device 1 to 2 µs.

#![forbid(unsafe_code)]

use super::{
    extent::wide,
    remaining::{Budget, Remaining},
};

/// What of a batch is launched before the rest is described.
#[derive(Clone, Copy, Debug)]
pub(super) struct FirstPart {
    /// How much of it is told in launch parameters, and the bytes that are worth it.
    pub(super) most: Budget,
    pub(super) least: usize,
    /// How much of it is told in a table, if parameters have no room for what is worth it.
    pub(super) in_table: Budget,
}

/// So many copies take the host longer than a launch takes; rows of a move a quarter of it.
const FEWEST: usize = 2048;
const ROWS_A_COPY: usize = 4;

/// The first part is so much of all as keeps the device busy while the rest is described: it is at work three times as long on
/// copies of different lengths as the host describes them, and eight times on rows, of some KiB each (H200). For copies of one
/// length, which take the host longest before any is described, two launches are no sooner done than one.
const SHARE_OF_ANY: usize = 3;
const SHARE_OF_ROWS: usize = 8;

impl FirstPart {
    /// The first part of `rest`, which has `bytes` bytes at least; `None` if the stream is not idle, or the batch is not worth two
    /// launches. Cost: one look at each copy of a large batch.
    pub(super) fn of(rest: &Remaining<'_>, is_idle: bool, bytes: usize) -> Option<FirstPart> {
        let (rows, copies) = (rest.row_count(), rest.copy_count());
        if !is_idle || copies.saturating_add(rows / ROWS_A_COPY) < FEWEST {
            return None;
        }
        let share = if rows > copies {
            SHARE_OF_ROWS
        } else if rest.is_ragged() {
            SHARE_OF_ANY
        } else {
            return None;
        };
        let all = rest.all_bytes();
        let first = bytes.max(all.checked_div(share).unwrap_or(all));
        let third = first.max(all / 3);
        (first <= all / 2).then_some(FirstPart { most: most(first), least: first / 2, in_table: most(third) })
    }
}

fn most(bytes: usize) -> Budget {
    Budget { chunks: wide(bytes / 16).min(Budget::ALL.chunks), ..Budget::ALL }
}
