//! A permutation: which row each position takes when a batch is re-packed.

#![forbid(unsafe_code)]

use crate::{buffer::Indices, error::Result};

/// For every position of the next batch, the row it takes: `0 .. old` are rows of the present
/// batch, `old + k` is row `k` of the rows that join.
///
/// Checked once, and kept with its bounds: each call compares the bounds with its views in O(1),
/// and no loop checks a row number again. A row may be taken more than once (its sequence is
/// forked) or not at all (it has finished). Destinations are positions, and so unique.
///
/// In TurboMind, any index from `old` on means "new: row `i` of the new data, by position". Here
/// the number of the joining row is given, so that joining rows are uploaded densely.
#[derive(Clone, Copy, Debug)]
pub struct Permutation<'p> {
    /// Invariant: the bound is `old + joining`.
    pub(super) rows: Indices<'p>,
    pub(super) old: usize,
}

impl<'p> Permutation<'p> {
    /// Checks `rows` against `old` rows of the present batch and `joining` rows that join.
    ///
    /// Cost: one pass, vectorised if `old + joining` is below 2^31.
    ///
    /// # Errors
    /// [`Error::Index`](crate::Error::Index) for the first row number that is not below `old +
    /// joining`; [`Error::TooLarge`](crate::Error::TooLarge) if that sum overflows.
    ///
    /// ```
    /// use tidelock::Permutation;
    ///
    /// let error = Permutation::new(&[0, 7, 2], 3, 1).unwrap_err();
    /// assert_eq!(error.to_string(), "`permutation`[1] is 7, but there are 4 rows");
    /// ```
    #[inline]
    pub fn new(rows: &'p [u32], old: usize, joining: usize) -> Result<Self> {
        let bound = old.checked_add(joining).ok_or(crate::Error::TooLarge { operand: "permutation" })?;
        Ok(Permutation { rows: Indices::with_joining(rows, old, bound, "permutation")?, old })
    }

    /// How many rows the next batch has.
    #[inline]
    #[must_use]
    pub const fn len(self) -> usize {
        self.rows.as_slice().len()
    }

    /// Whether the next batch is empty.
    #[inline]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.rows.as_slice().is_empty()
    }

    /// How many rows the present batch has.
    #[inline]
    #[must_use]
    pub const fn old(self) -> usize {
        self.old
    }

    /// How many rows join.
    #[inline]
    #[must_use]
    pub const fn joining(self) -> usize {
        self.rows.bound().saturating_sub(self.old)
    }

    /// The checked row numbers.
    #[inline]
    #[must_use]
    pub const fn indices(self) -> Indices<'p> {
        self.rows
    }
}
