//! Rows, one after the other.

use core::fmt;

use super::{Rows, RowsMut};
use crate::{
    buffer::{View, ViewMut},
    location::Location,
};

/// The rows of [`Rows`], in order.
pub struct RowsIter<'a, T, D> {
    /// The rows that are left.
    rest: Rows<'a, T, D>,
}

/// The rows of [`RowsMut`], in order.
pub struct RowsIterMut<'a, T, D> {
    /// The rows that are left. Those before were handed out.
    rest: RowsMut<'a, T, D>,
}

impl<'a, T, D> IntoIterator for Rows<'a, T, D> {
    type Item = View<'a, T, D>;
    type IntoIter = RowsIter<'a, T, D>;
    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        RowsIter { rest: self }
    }
}

impl<'a, T, D> IntoIterator for RowsMut<'a, T, D> {
    type Item = ViewMut<'a, T, D>;
    type IntoIter = RowsIterMut<'a, T, D>;
    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        RowsIterMut { rest: self }
    }
}

impl<'a, T, D> Iterator for RowsIter<'a, T, D> {
    type Item = View<'a, T, D>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let left = self.rest.count.checked_sub(1)?;
        // SAFETY:
        // - There is at least one row.
        let row = unsafe { self.rest.row_unchecked(0) };
        // Behind the last row it is any address, which is not used.
        self.rest.ptr = self.rest.ptr.wrapping_add(self.rest.pitch);
        self.rest.count = left;
        Some(row)
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.rest.count, Some(self.rest.count))
    }
}

impl<'a, T, D> Iterator for RowsIterMut<'a, T, D> {
    type Item = ViewMut<'a, T, D>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let left = self.rest.count.checked_sub(1)?;
        // SAFETY:
        // - There is at least one row, and `rest` is then advanced past it.
        let row = unsafe { self.rest.row_unchecked(0) };
        // Behind the last row it is any address, which is not used.
        self.rest.ptr = self.rest.ptr.wrapping_add(self.rest.pitch);
        self.rest.count = left;
        Some(row)
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.rest.count, Some(self.rest.count))
    }
}

impl<T, D> ExactSizeIterator for RowsIter<'_, T, D> {}
impl<T, D> ExactSizeIterator for RowsIterMut<'_, T, D> {}

impl<T, D: Location> fmt::Debug for RowsIter<'_, T, D> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowsIter").field("rest", &self.rest).finish()
    }
}
impl<T, D: Location> fmt::Debug for RowsIterMut<'_, T, D> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowsIterMut").field("rest", &self.rest).finish()
    }
}
