//! A permutation: which row each position takes when a batch is re-packed.

#![forbid(unsafe_code)]

use crate::{
    buffer::Indices,
    error::{Error, Result},
};

/// For every position of the next batch, the row it takes: `0 .. old` are rows of the present
/// batch, `old + k` is row `k` of the rows that join.
///
/// Checked once, and kept with its bounds: each call compares the bounds with its views in O(1),
/// and no loop checks a row number again. A row may be taken more than once (its sequence is
/// forked) or not at all (it has finished). Destinations are positions, and so unique.
///
/// The number of the joining row is given, so that joining rows are uploaded densely. In TurboMind
/// any number from `old` on means "row `i` of the new data, for position `i`":
/// [`by_position`](Permutation::by_position) takes such numbers.
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
    /// [`Error::Index`] for the first row number that is not below `old +
    /// joining`; [`Error::TooLarge`] if that sum overflows.
    ///
    /// ```
    /// use tidelock::Permutation;
    ///
    /// let error = Permutation::new(&[0, 7, 2], 3, 1).unwrap_err();
    /// assert_eq!(error.to_string(), "`permutation`[1] is 7, but there are 4 rows");
    /// ```
    #[inline]
    pub fn new(rows: &'p [u32], old: usize, joining: usize) -> Result<Self> {
        let bound = old.checked_add(joining).ok_or(Error::TooLarge { operand: "permutation" })?;
        Ok(Permutation { rows: Indices::with_joining(rows, old, bound, "permutation")?, old })
    }

    /// Checks TurboMind's numbers: for position `i`, `perm[i]` is a row of the present batch if it is
    /// below `old`. Any other number, whichever, means that the position takes row `i` of the rows
    /// that join. These are as many as there are positions, and only those of such positions are
    /// read.
    ///
    /// Numbers from `old` on are replaced by `old + i`, which is the same row in the numbers of
    /// [`new`](Permutation::new). Replacing them again changes nothing.
    ///
    /// Cost: two passes.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if the number of a position that joins exceeds 32 bits. Nothing is
    /// replaced then.
    ///
    /// ```
    /// use tidelock::Permutation;
    ///
    /// // Three sequences, of which 2 and 0 stay; positions 1 and 3 are new.
    /// let mut perm = [2, 3, 0, 4];
    /// let permutation = Permutation::by_position(&mut perm, 3)?;
    /// assert_eq!((permutation.old(), permutation.joining()), (3, 4));
    /// assert_eq!(permutation.indices().as_slice(), [2, 4, 0, 6]);
    /// # Ok::<(), tidelock::Error>(())
    /// ```
    #[inline]
    pub fn by_position(perm: &'p mut [u32], old: usize) -> Result<Self> {
        let too_large = Error::TooLarge { operand: "permutation" };
        let joining = perm.len();
        let bound = old.checked_add(joining).ok_or(too_large)?;
        // No number of 32 bits is above `u32::MAX`: none joins then.
        if let Ok(first) = u32::try_from(old) {
            let joins = |&number: &u32| number >= first;
            let last = perm.iter().rposition(joins).map(|position| old.saturating_add(position));
            if last.is_some_and(|last| u32::try_from(last).is_err()) {
                return Err(too_large);
            }
            for (number, own) in perm.iter_mut().zip(first..=u32::MAX) {
                *number = if joins(number) { own } else { *number };
            }
        }
        Ok(Permutation { rows: Indices::with_joining(perm, old, bound, "permutation")?, old })
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
