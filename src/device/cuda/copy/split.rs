//! Splits a large batch on an idle stream in two launches: the device works on the first while the
//! host describes the rest.
//!
//! Behind other work the device is busy anyway, and a batch is one launch if it fits: each launch
//! costs the device 1 to 2 µs.

#![forbid(unsafe_code)]

use super::{
    extent::wide,
    remaining::{Budget, Remaining},
};

/// The part of a batch that is launched before the rest is described.
#[derive(Clone, Copy, Debug)]
pub(super) struct FirstPart {
    /// What launch parameters may describe of it, and the fewest bytes that are worth a launch.
    pub(super) most: Budget,
    pub(super) least: usize,
    /// What a table may describe of it, if the parameters have no room for enough bytes.
    pub(super) in_table: Budget,
}

/// The fewest copies that the host describes for longer than a launch takes; a row of a gather
/// counts as a quarter of a copy.
const FEWEST: usize = 2048;
const ROWS_A_COPY: usize = 4;

/// The first launch takes enough work to hide encoding the rest. Of some KiB each, the device
/// copies for three times as long as the host describes copies of different lengths, and for eight
/// times as long as it describes rows (H200). Copies of one length end no sooner in two launches
/// than in one: most of the host's time is spent before any of them is described.
const SHARE_OF_ANY: usize = 3;
const SHARE_OF_ROWS: usize = 8;

impl FirstPart {
    /// The first part of `rest`, at least `bytes` bytes; `None` if the stream is not idle, or the
    /// batch is not worth two launches. Cost: a look at each copy of a large batch.
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
