//! A permutation that only the device knows.

use core::fmt;

use crate::{buffer::View, location::DeviceLocation};

/// Row numbers that a kernel has written, and nobody has checked.
///
/// Such Warps need the copy kernels on CUDA: without them they are refused with [`Code::NOT_SUPPORTED`](crate::Code).
pub struct UncheckedPermutation<'env, L> {
    rows: View<'env, u32, L>,
    old: usize,
    joining: usize,
}

impl<'env, L: DeviceLocation> UncheckedPermutation<'env, L> {
    /// Row numbers for every position of the next batch: `0 .. old` are rows of the present one, `old + k` is row `k` of the
    /// rows that join.
    ///
    /// # Safety
    /// - Every element of `rows` is below `old + joining` when the stream reaches a batch that they are used in.
    #[inline]
    #[must_use]
    pub const unsafe fn new(rows: View<'env, u32, L>, old: usize, joining: usize) -> Self {
        UncheckedPermutation { rows, old, joining }
    }

    /// The row numbers.
    #[inline]
    #[must_use]
    pub const fn rows(&self) -> View<'env, u32, L> {
        self.rows
    }

    /// How many rows the present batch has.
    #[inline]
    #[must_use]
    pub const fn old(&self) -> usize {
        self.old
    }

    /// How many rows join.
    #[inline]
    #[must_use]
    pub const fn joining(&self) -> usize {
        self.joining
    }
}

impl<L> Clone for UncheckedPermutation<'_, L> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}
impl<L> Copy for UncheckedPermutation<'_, L> {}

impl<L> fmt::Debug for UncheckedPermutation<'_, L> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UncheckedPermutation")
            .field("old", &self.old)
            .field("joining", &self.joining)
            .finish_non_exhaustive()
    }
}
