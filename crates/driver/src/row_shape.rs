//! Whether rows are carried out as one gather or as a copy each.

#![forbid(unsafe_code)]

/// The shape of rows, and whether they cross between host and device.
#[derive(Clone, Copy, Debug)]
pub struct RowShape {
    /// How many rows the destination has.
    pub rows: usize,
    /// The bytes of a row.
    pub bytes: usize,
    /// The copies that the rows are if those that continue one another are one.
    pub runs: usize,
    /// Whether source or destination is host memory.
    pub crosses: bool,
}

/// Fewer rows are copies like others.
const FEWEST: usize = 8;
/// Longer rows between host and device are a copy each: the copy engines carry these out sooner.
const LONGEST_CROSSING: usize = (1 << 18) - 1;
/// Rows of which so many continue one another, on average, are copied run by run.
const LONG_RUNS: usize = 8;

impl RowShape {
    /// The longest row of a gather, in bytes: longer ones are a launch each, or more.
    pub const LONGEST: usize = 1 << 30;

    /// Whether one gather is better than a copy for each run.
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
