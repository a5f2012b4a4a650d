//! Rows of equal width, and their selection by row numbers that were checked once.

use core::{fmt, num::NonZero};

use tidelock_driver::widen;

use super::{ChunksExactMut, Indices, View, ViewMut, shown};
use crate::{
    error::{Error, OutOfRange, Result},
    location::Location,
};

/// A shared view cut into rows of one width.
pub struct Rows<'a, T, D> {
    /// Invariant: `view.len() == width * count`.
    view: View<'a, T, D>,
    width: NonZero<usize>,
    count: usize,
}

/// An exclusive view cut into rows of one width.
pub struct RowsMut<'a, T, D> {
    /// Invariant: `view.len() == width * count`.
    view: ViewMut<'a, T, D>,
    width: NonZero<usize>,
    count: usize,
}

impl<'a, T, D: Location> View<'a, T, D> {
    /// The view as rows of `width` elements.
    ///
    /// # Errors
    /// [`Error::Length`] if it is not a whole number of rows.
    #[inline]
    pub fn rows(self, width: NonZero<usize>) -> Result<Rows<'a, T, D>> {
        Ok(Rows { view: self, width, count: count(self.len(), width)? })
    }
}

impl<'a, T, D: Location> ViewMut<'a, T, D> {
    /// The view as rows of `width` elements.
    ///
    /// # Errors
    /// [`Error::Length`] if it is not a whole number of rows.
    #[inline]
    pub fn rows(self, width: NonZero<usize>) -> Result<RowsMut<'a, T, D>> {
        let count = count(self.len(), width)?;
        Ok(RowsMut { view: self, width, count })
    }
}

impl<'a, T, D: Location> Rows<'a, T, D> {
    /// How many rows there are.
    #[inline]
    #[must_use]
    pub const fn row_count(self) -> usize {
        self.count
    }

    /// How many elements a row has.
    #[inline]
    #[must_use]
    pub const fn width(self) -> NonZero<usize> {
        self.width
    }

    /// The rows as one view.
    #[inline]
    #[must_use]
    pub const fn as_view(self) -> View<'a, T, D> {
        self.view
    }

    /// Row `i`.
    ///
    /// # Errors
    /// [`OutOfRange`] if there is none.
    #[inline]
    pub fn row(self, i: usize) -> Result<View<'a, T, D>, OutOfRange> {
        if i >= self.count {
            return Err(OutOfRange);
        }
        // SAFETY:
        // - `i < count`, just checked.
        Ok(unsafe { self.row_unchecked(i) })
    }

    /// The first `n` rows.
    ///
    /// # Errors
    /// [`OutOfRange`] if there are fewer.
    #[inline]
    pub fn first(self, n: usize) -> Result<Rows<'a, T, D>, OutOfRange> {
        if n > self.count {
            return Err(OutOfRange);
        }
        let view = self.view.slice(..n.wrapping_mul(self.width.get()))?;
        Ok(Rows { view, width: self.width, count: n })
    }

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

    /// Row `i`.
    ///
    /// # Safety
    /// - `i < self.count`.
    #[inline]
    const unsafe fn row_unchecked(self, i: usize) -> View<'a, T, D> {
        // SAFETY:
        // - `(i + 1) * width <= count * width == view.len()`, so that the product does not wrap.
        unsafe { self.view.part(i.wrapping_mul(self.width.get()), self.width.get()) }
    }
}

impl<'a, T, D: Location> RowsMut<'a, T, D> {
    /// How many rows there are.
    #[inline]
    #[must_use]
    pub const fn row_count(&self) -> usize {
        self.count
    }

    /// How many elements a row has.
    #[inline]
    #[must_use]
    pub const fn width(&self) -> NonZero<usize> {
        self.width
    }

    /// The address of the first row.
    #[inline]
    pub(crate) const fn as_mut_ptr(&mut self) -> *mut T {
        self.view.as_mut_ptr()
    }

    /// The first `n` rows.
    ///
    /// # Errors
    /// [`OutOfRange`] if there are fewer.
    #[inline]
    pub fn first(self, n: usize) -> Result<RowsMut<'a, T, D>, OutOfRange> {
        if n > self.count {
            return Err(OutOfRange);
        }
        let view = self.view.slice(..n.wrapping_mul(self.width.get()))?;
        Ok(RowsMut { view, width: self.width, count: n })
    }
}

impl<'a, T, D> IntoIterator for RowsMut<'a, T, D> {
    type Item = ViewMut<'a, T, D>;
    type IntoIter = ChunksExactMut<'a, T, D>;
    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        self.view.chunks_exact(self.width)
    }
}

/// A row of the first or of the second operand of [`Rows::pick`].
pub(crate) enum Picked<A, B> {
    First(A),
    Second(B),
}

fn count(len: usize, width: NonZero<usize>) -> Result<usize> {
    let count = len / width;
    let whole = count.wrapping_mul(width.get());
    if whole == len { Ok(count) } else { Err(Error::Length { operand: "rows", expected: whole, found: len }) }
}

impl<T, D> Clone for Rows<'_, T, D> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}
impl<T, D> Copy for Rows<'_, T, D> {}

impl<T, D: Location> fmt::Debug for Rows<'_, T, D> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown::memory::<T, D>(f, "Rows")?;
        f.debug_struct("").field("count", &self.count).field("width", &self.width).finish()
    }
}
impl<T, D: Location> fmt::Debug for RowsMut<'_, T, D> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown::memory::<T, D>(f, "RowsMut")?;
        f.debug_struct("").field("count", &self.count).field("width", &self.width).finish()
    }
}
