//! Rows of unequal length: one view and a table of offsets that was checked once.

#![forbid(unsafe_code)]

use core::fmt;

use super::{View, gather::widen};
use crate::{
    error::{Error, Result},
    location::Location,
};

/// A table of `n + 1` offsets, in elements, that starts at 0 and never decreases: checked once.
#[derive(Clone, Copy, Debug)]
pub struct Offsets<'o> {
    /// Invariant: not empty, starts at 0, never decreases.
    table: &'o [u32],
    end: usize,
}

/// Rows of unequal length: row `i` is the elements `offsets[i] .. offsets[i + 1]` of a view.
pub struct Ragged<'a, T, D> {
    /// Invariant: `view.len() >= offsets.end`.
    view: View<'a, T, D>,
    offsets: Offsets<'a>,
}

impl<'o> Offsets<'o> {
    /// Checks `table`; `operand` names it in the error.
    ///
    /// Cost: one pass.
    ///
    /// # Errors
    /// [`Error::Offsets`] if it is empty, does not start at 0, or decreases.
    #[inline]
    pub fn new(table: &'o [u32], operand: &'static str) -> Result<Self> {
        let mut last = 0;
        for (position, &offset) in table.iter().enumerate() {
            if offset < last || (position == 0 && offset != 0) {
                return Err(Error::Offsets { operand, position, value: widen(offset) });
            }
            last = offset;
        }
        if table.is_empty() {
            return Err(Error::Length { operand, expected: 1, found: 0 });
        }
        Ok(Offsets { table, end: widen(last) })
    }

    /// How many rows the table has: one less than offsets.
    #[inline]
    #[must_use]
    pub const fn rows(self) -> usize {
        self.table.len().saturating_sub(1)
    }

    /// Where the last row ends.
    #[inline]
    #[must_use]
    pub const fn end(self) -> usize {
        self.end
    }

    /// Start and end of row `i`.
    #[inline]
    #[must_use]
    pub fn row(self, i: usize) -> Option<(usize, usize)> {
        match self.table.get(i..)? {
            [start, end, ..] => Some((widen(*start), widen(*end))),
            _ => None,
        }
    }
}

impl<'a, T, D: Location> View<'a, T, D> {
    /// The view as rows of unequal length; elements behind the last row are left out.
    ///
    /// # Errors
    /// [`Error::Length`] if the rows end behind the view.
    #[inline]
    pub fn ragged(self, offsets: Offsets<'a>) -> Result<Ragged<'a, T, D>> {
        if offsets.end > self.len() {
            return Err(Error::Length { operand: "ragged rows", expected: offsets.end, found: self.len() });
        }
        Ok(Ragged { view: self, offsets })
    }
}

impl<'a, T, D: Location> Ragged<'a, T, D> {
    /// How many rows there are.
    #[inline]
    #[must_use]
    pub const fn count(self) -> usize {
        self.offsets.rows()
    }

    /// How many elements row `i` has, if there is one.
    #[inline]
    #[must_use]
    pub fn row_len(self, i: usize) -> Option<usize> {
        let (start, end) = self.offsets.row(i)?;
        end.checked_sub(start)
    }

    /// Row `i`, if there is one.
    #[inline]
    #[must_use]
    pub fn row(self, i: usize) -> Option<View<'a, T, D>> {
        let (start, end) = self.offsets.row(i)?;
        self.view.slice(start..end).ok()
    }
}

impl<T, D> Clone for Ragged<'_, T, D> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}
impl<T, D> Copy for Ragged<'_, T, D> {}

impl<T, D> fmt::Debug for Ragged<'_, T, D> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ragged").field("view", &self.view).field("offsets", &self.offsets).finish()
    }
}
