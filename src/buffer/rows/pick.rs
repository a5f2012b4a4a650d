//! Rows selected by checked numbers, one after the other.

use tidelock_driver::widen;

use super::{Rows, RowsMut};
use crate::{
    buffer::{Indices, Scatter, View, ViewMut},
    error::{Error, Result},
    location::Location,
};

/// A row of the first or of the second operand of [`Rows::pick`].
pub(crate) enum Picked<A, B> {
    First(A),
    Second(B),
}

impl<'a, T, D: Location> Rows<'a, T, D> {
    /// Selects rows of these and, numbered after them, of `more`: row `row_count() + k` is row `k`
    /// of `more`.
    ///
    /// The bound of `indices` is compared with the number of rows once; the iterator checks
    /// nothing.
    ///
    /// # Errors
    /// [`Error::Length`], naming `operand`, if `indices` were checked against more rows than there
    /// are.
    #[inline]
    pub(crate) fn pick<'p, E: Location>(
        self,
        more: Rows<'a, T, E>,
        indices: Indices<'p>,
        operand: &'static str,
    ) -> Result<impl ExactSizeIterator<Item = Picked<View<'a, T, D>, View<'a, T, E>>> + use<'a, 'p, T, D, E>> {
        let found = self.count.saturating_add(more.count);
        if indices.bound() > found {
            return Err(Error::Length { operand, expected: indices.bound(), found });
        }
        Ok(indices.as_slice().iter().map(move |&row| {
            let row = widen(row);
            match row.checked_sub(self.count) {
                None => {
                    // SAFETY:
                    // - `row < self.count`.
                    Picked::First(unsafe { self.row_unchecked(row) })
                }
                Some(row) => {
                    // SAFETY:
                    // - The index is below `indices.bound() <= self.count + more.count`, so that
                    //   `row < more.count`.
                    Picked::Second(unsafe { more.row_unchecked(row) })
                }
            }
        }))
    }

    /// Selects rows of these; `None` for a row number that is not below `row_count()`.
    #[inline]
    pub(crate) fn pick_own<'p>(
        self,
        indices: Indices<'p>,
    ) -> impl ExactSizeIterator<Item = Option<View<'a, T, D>>> + use<'a, 'p, T, D> {
        indices.as_slice().iter().map(move |&row| self.row(widen(row)).ok())
    }

    /// The source row of each pair of `scatter`, in the order of the pairs. A row may be there more
    /// than once.
    ///
    /// The bound of `scatter` is compared with the number of rows once; the iterator checks
    /// nothing.
    ///
    /// # Errors
    /// [`Error::Length`] if the pairs were checked against more rows than there are.
    #[inline]
    pub fn sources<'p>(
        self,
        scatter: &'p Scatter,
    ) -> Result<impl ExactSizeIterator<Item = View<'a, T, D>> + use<'a, 'p, T, D>> {
        at_least("src", scatter.from_rows(), self.count)?;
        Ok(scatter.sources().iter().map(move |&row| {
            // SAFETY:
            // - Sources are below `from_rows() <= self.count`.
            unsafe { self.row_unchecked(widen(row)) }
        }))
    }
}

impl<'a, T, D: Location> RowsMut<'a, T, D> {
    /// The destination row of each pair of `scatter`, in the order of the pairs.
    ///
    /// The bound of `scatter` is compared with the number of rows once; the iterator checks
    /// nothing, as no two destinations of a `Scatter` are one row.
    ///
    /// # Errors
    /// [`Error::Length`] if the pairs were checked against more rows than there are.
    ///
    /// ```
    /// use tidelock::{ViewMut, buffer::Scatter};
    /// use std::num::NonZero;
    ///
    /// // Embeddings of two modules go to tokens in any order.
    /// let mut scatter = Scatter::new();
    /// scatter.set([(0, 3), (1, 0)], 2, 4)?;
    /// let mut tokens = [0; 8];
    /// let rows = ViewMut::from(&mut tokens[..]).rows(NonZero::new(2).unwrap())?;
    /// for (row, module) in rows.targets(&scatter)?.zip([7, 8]) {
    ///     row.into_slice().fill(module);
    /// }
    /// assert_eq!(tokens, [8, 8, 0, 0, 0, 0, 7, 7]);
    /// # Ok::<(), tidelock::Error>(())
    /// ```
    #[inline]
    pub fn targets<'p>(
        self,
        scatter: &'p Scatter,
    ) -> Result<impl ExactSizeIterator<Item = ViewMut<'a, T, D>> + use<'a, 'p, T, D>> {
        at_least("dst", scatter.to_rows(), self.count)?;
        Ok(scatter.targets().iter().map(move |&row| {
            // SAFETY:
            // - Destinations are below `to_rows() <= self.count`, and no two are one row: each is
            //   handed out once, as `self` is consumed and the slice is borrowed.
            unsafe { self.row_unchecked(widen(row)) }
        }))
    }

    /// Source and destination row of each pair of `scatter`, both rows of these, in the order of
    /// the pairs.
    ///
    /// Cost: as for [`targets`](RowsMut::targets); [`Scatter::set`] has found out whether a row is
    /// source and destination.
    ///
    /// # Errors
    /// [`Error::Length`] if the pairs were checked against more rows than there are;
    /// [`Error::ReadAndWritten`] if a row is source and destination.
    #[inline]
    pub fn pairs<'p>(
        self,
        scatter: &'p Scatter,
    ) -> Result<impl ExactSizeIterator<Item = (View<'a, T, D>, ViewMut<'a, T, D>)> + use<'a, 'p, T, D>> {
        at_least("rows", scatter.from_rows().max(scatter.to_rows()), self.count)?;
        scatter.apart()?;
        Ok(scatter.sources().iter().zip(scatter.targets()).map(move |(&from, &to)| {
            // SAFETY:
            // - Sources are below `from_rows() <= self.count`, and none is a destination, so that
            //   it is not written: `self` is consumed.
            let src = unsafe { self.row_to_read_unchecked(widen(from)) };
            // SAFETY:
            // - As in `targets`; the row is no source.
            (src, unsafe { self.row_unchecked(widen(to)) })
        }))
    }
}

/// Checks that there are enough rows for numbers below a bound.
#[inline]
pub(crate) fn at_least(operand: &'static str, expected: usize, found: usize) -> Result<()> {
    if found < expected { Err(Error::Length { operand, expected, found }) } else { Ok(()) }
}
