//! Elements of tensors that the host may access.

use core::fmt;

use super::{TensorMut, TensorView};
use crate::{
    error::Result,
    layout::advance,
    location::{HostAccessible, Location},
};

impl<'a, T, D: HostAccessible, const R: usize> TensorView<'a, T, D, R> {
    /// The element of `index`.
    ///
    /// # Errors
    /// [`Error::Axis`](crate::Error::Axis) if an axis has no such place.
    #[inline]
    pub fn get(self, index: [usize; R]) -> Result<&'a T> {
        let offset = self.layout().offset(index)?;
        // SAFETY:
        // - The element is one of the tensor, and nothing writes it during `'a`.
        // - The host may dereference memory in `D`, and only the host uses it.
        Ok(unsafe { &*self.as_ptr().wrapping_add(offset) })
    }

    /// The elements, the last axis fastest. Cost of one: an addition for each axis that ends.
    #[inline]
    #[must_use]
    pub fn iter(self) -> TensorIter<'a, T, D, R> {
        let left = self.size();
        TensorIter { tensor: self, index: [0; R], offset: 0, left }
    }
}

impl<T, D: HostAccessible, const R: usize> TensorMut<'_, T, D, R> {
    /// The element of `index`.
    ///
    /// # Errors
    /// [`Error::Axis`](crate::Error::Axis) if an axis has no such place.
    #[inline]
    pub fn get_mut(&mut self, index: [usize; R]) -> Result<&mut T> {
        let offset = self.layout().offset(index)?;
        // SAFETY:
        // - The element is one of the tensor, which is borrowed exclusively.
        // - The host may dereference memory in `D`, and only the host uses it.
        Ok(unsafe { &mut *self.as_mut_ptr().wrapping_add(offset) })
    }

    /// Replaces the element of `index`.
    ///
    /// # Errors
    /// As for [`get_mut`](TensorMut::get_mut).
    #[inline]
    pub fn set(&mut self, index: [usize; R], value: T) -> Result<()> {
        *self.get_mut(index)? = value;
        Ok(())
    }
}

/// The elements of a tensor, the last axis fastest.
pub struct TensorIter<'a, T, D, const R: usize> {
    tensor: TensorView<'a, T, D, R>,
    /// The next element.
    index: [usize; R],
    offset: usize,
    left: usize,
}

impl<'a, T, D: HostAccessible, const R: usize> Iterator for TensorIter<'a, T, D, R> {
    type Item = &'a T;

    #[inline]
    fn next(&mut self) -> Option<&'a T> {
        self.left = self.left.checked_sub(1)?;
        let ptr = self.tensor.as_ptr().wrapping_add(self.offset);
        let layout = self.tensor.layout();
        advance(&layout.shape(), &layout.stride(), &mut self.index, &mut self.offset);
        // SAFETY:
        // - `offset` was that of `index`, which is one of the tensor: there were `left` more.
        //   Nothing writes the element during `'a`.
        // - The host may dereference memory in `D`, and only the host uses it.
        Some(unsafe { &*ptr })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<T, D: HostAccessible, const R: usize> ExactSizeIterator for TensorIter<'_, T, D, R> {}

impl<'a, T, D: HostAccessible, const R: usize> IntoIterator for TensorView<'a, T, D, R> {
    type Item = &'a T;
    type IntoIter = TensorIter<'a, T, D, R>;

    #[inline]
    fn into_iter(self) -> TensorIter<'a, T, D, R> {
        self.iter()
    }
}

impl<T, D: Location, const R: usize> Clone for TensorIter<'_, T, D, R> {
    #[inline]
    fn clone(&self) -> Self {
        TensorIter { ..*self }
    }
}

impl<T, D: Location, const R: usize> fmt::Debug for TensorIter<'_, T, D, R> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TensorIter").field("tensor", &self.tensor).field("left", &self.left).finish()
    }
}
