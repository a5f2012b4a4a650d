//! Rows of unequal length: one view, and a table of offsets that was checked once.

#![forbid(unsafe_code)]

use core::{fmt, ops::RangeBounds};

use tidelock_driver::widen;

use super::{View, shown, view::resolve};
use crate::{
    error::{Error, OutOfRange, Result},
    location::Location,
};

/// A table of `n + 1` offsets, in elements, that never decrease: where each of `n` rows starts, and
/// where the last one ends. Checked once.
///
/// The table of a whole batch starts at 0. A [`part`](Offsets::part) of it borrows the same table:
/// its rows lie at the same offsets of the view, or, with [`from_first`](Offsets::from_first), in a
/// view that starts with the part.
///
/// ```
/// use tidelock::{View, buffer::Offsets};
///
/// let (tokens, starts) = ([1, 1, 2, 3, 3, 3], [0, 2, 3, 6]);
/// let (tokens, all) = (View::from(&tokens[..]), Offsets::new(&starts, "starts")?);
/// let last_two = all.part(1..)?;
/// assert_eq!(tokens.ragged(last_two)?.row(1)?.as_slice(), [3, 3, 3]);
///
/// // The same rows in a view of their elements alone.
/// let theirs = tokens.slice(last_two.start()..last_two.end())?;
/// assert_eq!(theirs.ragged(last_two.from_first())?.row(1)?.as_slice(), [3, 3, 3]);
/// # Ok::<(), tidelock::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Offsets<'o> {
    /// Invariant: not empty, never decreases.
    table: &'o [u32],
    /// What is subtracted from every offset: 0, or the first offset of the table.
    base: u32,
    /// The last offset, less `base`.
    end: usize,
}

/// Rows of unequal length: row `i` is the elements `offsets[i] .. offsets[i + 1]` of a view.
pub struct Ragged<'a, T, D> {
    /// Invariant: `view.len() >= offsets.end`.
    view: View<'a, T, D>,
    offsets: Offsets<'a>,
}

impl<'o> Offsets<'o> {
    /// Checks the table of a whole batch; `operand` names it in the error.
    ///
    /// Cost: one pass.
    ///
    /// # Errors
    /// [`Error::Offsets`] if `table` does not start at 0, or decreases; [`Error::Length`] if it is
    /// empty.
    #[inline]
    pub fn new(table: &'o [u32], operand: &'static str) -> Result<Self> {
        match table.first() {
            Some(&value) if value != 0 => Err(Error::Offsets { operand, position: 0, value: widen(value) }),
            _ => Offsets::of_part(table, operand),
        }
    }

    /// Checks a part of the table of a batch, which may start at any offset; `operand` names it in
    /// the error.
    ///
    /// Cost: one pass.
    ///
    /// # Errors
    /// [`Error::Offsets`] if `table` decreases; [`Error::Length`] if it is empty.
    #[inline]
    pub fn of_part(table: &'o [u32], operand: &'static str) -> Result<Self> {
        let &(mut last) = table.first().ok_or(Error::Length { operand, expected: 1, found: 0 })?;
        for (position, &offset) in table.iter().enumerate() {
            if offset < last {
                return Err(Error::Offsets { operand, position, value: widen(offset) });
            }
            last = offset;
        }
        Ok(Offsets { table, base: 0, end: widen(last) })
    }

    /// How many rows there are: one less than offsets.
    #[inline]
    #[must_use]
    pub const fn row_count(self) -> usize {
        self.table.len().saturating_sub(1)
    }

    /// Where the first row starts.
    #[inline]
    #[must_use]
    pub fn start(self) -> usize {
        self.table.first().map_or(0, |&first| self.place(first))
    }

    /// Where the last row ends.
    #[inline]
    #[must_use]
    pub const fn end(self) -> usize {
        self.end
    }

    /// Start and end of row `i`, in elements, if there is one.
    #[inline]
    #[must_use]
    pub fn range(self, i: usize) -> Option<(usize, usize)> {
        match self.table.get(i..)? {
            [start, end, ..] => Some((self.place(*start), self.place(*end))),
            _ => None,
        }
    }

    /// The offsets of the rows in `range`. Nothing is checked again, and nothing is copied.
    ///
    /// # Errors
    /// [`OutOfRange`] if not all of these rows exist, or if the range ends before it starts.
    #[inline]
    pub fn part(self, range: impl RangeBounds<usize>) -> Result<Self, OutOfRange> {
        let (first, rows) = resolve(&range, self.row_count())?;
        // One offset more than rows.
        let table = self.table.get(first..).and_then(|table| table.get(..=rows)).ok_or(OutOfRange)?;
        let &end = table.last().ok_or(OutOfRange)?;
        Ok(Offsets { table, base: self.base, end: self.place(end) })
    }

    /// The same rows, in a view that starts with the first of them. Nothing is copied.
    #[inline]
    #[must_use]
    pub fn from_first(self) -> Self {
        let base = self.table.first().copied().unwrap_or(0);
        Offsets { table: self.table, base, end: self.end.wrapping_sub(self.start()) }
    }

    /// The offset in the view that `offset` of the table stands for.
    #[inline]
    fn place(self, offset: u32) -> usize {
        // Offsets never decrease, so that none is below `base`.
        widen(offset.wrapping_sub(self.base))
    }
}

impl<'a, T, D: Location> View<'a, T, D> {
    /// The view as rows of unequal length. Elements before the first row and after the last one are
    /// left out.
    ///
    /// # Errors
    /// [`Error::Length`] if the last row ends after the view.
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
    pub const fn row_count(self) -> usize {
        self.offsets.row_count()
    }

    /// How many elements row `i` has, if there is one.
    #[inline]
    #[must_use]
    pub fn row_len(self, i: usize) -> Option<usize> {
        let (start, end) = self.offsets.range(i)?;
        end.checked_sub(start)
    }

    /// Row `i`.
    ///
    /// # Errors
    /// [`OutOfRange`] if there is no such row.
    #[inline]
    pub fn row(self, i: usize) -> Result<View<'a, T, D>, OutOfRange> {
        let (start, end) = self.offsets.range(i).ok_or(OutOfRange)?;
        self.view.slice(start..end)
    }

    /// The rows in `range`. Neither elements nor offsets are copied.
    ///
    /// # Errors
    /// [`OutOfRange`] if they do not all exist, or if the range ends before it starts.
    #[inline]
    pub fn part(self, range: impl RangeBounds<usize>) -> Result<Ragged<'a, T, D>, OutOfRange> {
        Ok(Ragged { view: self.view, offsets: self.offsets.part(range)? })
    }
}

impl<T, D> Clone for Ragged<'_, T, D> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}
impl<T, D> Copy for Ragged<'_, T, D> {}

impl<T, D: Location> fmt::Debug for Ragged<'_, T, D> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown::memory::<T, D>(f, "Ragged")?;
        f.debug_struct("").field("len", &self.view.len()).field("rows", &self.row_count()).finish()
    }
}
