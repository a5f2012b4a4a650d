//! Views cut into pieces of one size.

use core::{fmt, num::NonZero};

use super::{View, ViewMut};
use crate::{buffer::shown, location::Location};

/// The pieces of a view, from [`View::chunks_exact`].
pub struct ChunksExact<'a, T, D> {
    pub(super) rest: View<'a, T, D>,
    pub(super) size: NonZero<usize>,
}

impl<'a, T, D> Iterator for ChunksExact<'a, T, D> {
    type Item = View<'a, T, D>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (piece, rest) = self.rest.split_at(self.size.get()).ok()?;
        self.rest = rest;
        Some(piece)
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let n = self.rest.len / self.size;
        (n, Some(n))
    }
}

impl<T, D> ExactSizeIterator for ChunksExact<'_, T, D> {}

/// The pieces of an exclusive view, from [`ViewMut::chunks_exact`].
pub struct ChunksExactMut<'a, T, D> {
    pub(super) rest: ViewMut<'a, T, D>,
    pub(super) size: NonZero<usize>,
}

impl<'a, T, D> Iterator for ChunksExactMut<'a, T, D> {
    type Item = ViewMut<'a, T, D>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.len.checked_sub(self.size.get())?;
        // SAFETY:
        // - `0 + size <= rest.len`, and `rest` is then advanced past the piece.
        let piece = unsafe { self.rest.part(0, self.size.get()) };
        // SAFETY:
        // - `size + rest == rest.len`; the old view is replaced.
        self.rest = unsafe { self.rest.part(self.size.get(), rest) };
        Some(piece)
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let n = self.rest.len / self.size;
        (n, Some(n))
    }
}

impl<T, D> ExactSizeIterator for ChunksExactMut<'_, T, D> {}

impl<T, D: Location> fmt::Debug for ChunksExact<'_, T, D> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown::memory::<T, D>(f, "ChunksExact")?;
        f.debug_struct("").field("rest", &self.rest.len).field("size", &self.size).finish()
    }
}
impl<T, D: Location> fmt::Debug for ChunksExactMut<'_, T, D> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown::memory::<T, D>(f, "ChunksExactMut")?;
        f.debug_struct("").field("rest", &self.rest.len).field("size", &self.size).finish()
    }
}
