//! Whether rows are moved by one gather or by copies.

#![forbid(unsafe_code)]

/// The number and size of rows, and whether they cross between host and device.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RowShape {
    /// The number of rows of the destination.
    pub rows: usize,
    /// The size of a row in bytes.
    pub bytes: usize,
    /// The number of runs: adjacent rows that one copy can move.
    pub runs: usize,
    /// Whether source or destination is host memory.
    pub crosses: bool,
}

/// The fewest rows for a gather.
const FEWEST: usize = 8;
/// The longest row of a gather between host and device, in bytes. The copy engines are faster for
/// longer rows.
const LONGEST_CROSSING: usize = (1 << 18) - 1;
/// The average length of runs, in rows, from which on copies are used.
const LONG_RUNS: usize = 8;

impl RowShape {
    /// The longest row of a gather, in bytes. A longer row would take a launch of its own, or more.
    pub const LONGEST: usize = 1 << 30;

    /// `rows` rows of `bytes` bytes in `runs` runs, which cross between host and device or do not.
    #[inline]
    #[must_use]
    pub const fn new(rows: usize, bytes: usize, runs: usize, crosses: bool) -> Self {
        RowShape { rows, bytes, runs, crosses }
    }

    /// Whether one gather is better than one copy for each run, on an H200.
    #[inline]
    #[must_use]
    pub const fn is_worth_a_gather(&self) -> bool {
        let longest = if self.crosses { LONGEST_CROSSING } else { Self::LONGEST };
        self.rows >= FEWEST && self.bytes <= longest && self.runs > self.rows / LONG_RUNS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gather_has_many_short_rows_that_do_not_continue_one_another() {
        let shape = RowShape { rows: 64, bytes: 100, runs: 64, crosses: false };
        let is_worth = |shape: RowShape| shape.is_worth_a_gather();
        assert!(is_worth(shape));
        assert_eq!([7, 8].map(|rows| is_worth(RowShape { rows, runs: rows, ..shape })), [false, true]);
        assert_eq!([8, 9].map(|runs| is_worth(RowShape { runs, ..shape })), [false, true]);
        for (crosses, longest) in [(false, 1 << 30), (true, 262_143)] {
            let lengths = [longest, longest + 1];
            assert_eq!(lengths.map(|bytes| is_worth(RowShape { bytes, crosses, ..shape })), [true, false]);
        }
    }
}
