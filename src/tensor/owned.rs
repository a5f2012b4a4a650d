//! Tensors that own their memory.

use core::{fmt, mem::MaybeUninit};

use super::{TensorMut, TensorView};
use crate::{
    alloc::Allocator,
    buffer::{Buffer, shown},
    error::{Rejected, Result},
    layout::Layout,
    location::Location,
};

/// A buffer with a shape: row-major elements of `T` in location `D`, allocated from `A`.
///
/// Tensors of other layouts are borrowed from it. It is a buffer in everything else:
/// [`into_buffer`](Tensor::into_buffer) crosses streams, is staged and is shared, and
/// [`Buffer::tensor`] makes it a tensor again.
///
/// Size: that of the buffer and of the layout. No reference count.
pub struct Tensor<T, D: Location, const R: usize, A: Allocator<D> = <D as Location>::DefaultAlloc> {
    buffer: Buffer<T, D, A>,
    /// Invariant: row-major, of as many elements as the buffer has.
    layout: Layout<R>,
}

impl<T, D: Location, A: Allocator<D>> Buffer<T, D, A> {
    /// The buffer as a row-major tensor. One extent may be [`REST`](crate::layout::REST).
    ///
    /// # Errors
    /// As for [`Layout::of`], with the buffer.
    #[inline]
    pub fn tensor<const R: usize>(self, shape: [usize; R]) -> Result<Tensor<T, D, R, A>, Rejected<Self>> {
        match Layout::of(shape, self.len()) {
            Ok(layout) => Ok(Tensor { buffer: self, layout }),
            Err(error) => Err(Rejected::new(error, self)),
        }
    }
}

impl<T, D: Location, const R: usize, A: Allocator<D>> Tensor<T, D, R, A> {
    /// The extent of each axis.
    #[inline]
    #[must_use]
    pub const fn shape(&self) -> [usize; R] {
        self.layout.shape()
    }

    /// The layout, which is row-major.
    #[inline]
    #[must_use]
    pub const fn layout(&self) -> Layout<R> {
        self.layout
    }

    /// How many elements there are.
    #[inline]
    #[must_use]
    pub const fn size(&self) -> usize {
        self.buffer.len()
    }

    /// All elements, to read.
    #[inline]
    #[must_use]
    pub const fn view(&self) -> TensorView<'_, T, D, R> {
        // SAFETY:
        // - The elements of the buffer, one after the other, which is borrowed for the lifetime.
        unsafe { TensorView::new(self.buffer.view().as_nonnull(), self.layout) }
    }

    /// All elements, to write.
    #[inline]
    #[must_use]
    pub const fn view_mut(&mut self) -> TensorMut<'_, T, D, R> {
        // SAFETY:
        // - As for `view`, borrowed exclusively. A row-major layout names no element twice.
        unsafe { TensorMut::new(self.buffer.view_mut().into_nonnull(), self.layout) }
    }

    /// The buffer.
    #[inline]
    #[must_use]
    pub const fn buffer(&self) -> &Buffer<T, D, A> {
        &self.buffer
    }

    /// The buffer, without its shape.
    #[inline]
    #[must_use]
    pub fn into_buffer(self) -> Buffer<T, D, A> {
        self.buffer
    }

    /// The same elements in the same order, in another shape, of which one extent may be
    /// [`REST`](crate::layout::REST). Nothing moves.
    ///
    /// # Errors
    /// As for [`Layout::of`], with the tensor.
    #[inline]
    pub fn reshape<const Q: usize>(self, shape: [usize; Q]) -> Result<Tensor<T, D, Q, A>, Rejected<Self>> {
        match Layout::of(shape, self.size()) {
            Ok(layout) => Ok(Tensor { buffer: self.buffer, layout }),
            Err(error) => Err(Rejected::new(error, self)),
        }
    }
}

impl<T, D: Location, const R: usize, A: Allocator<D>> Tensor<MaybeUninit<T>, D, R, A> {
    /// The tensor with the elements that its memory has.
    ///
    /// # Safety
    /// - As for [`Buffer::assume_init`].
    #[inline]
    #[must_use]
    pub unsafe fn assume_init(self) -> Tensor<T, D, R, A> {
        // SAFETY:
        // - The caller keeps the same contract.
        Tensor { buffer: unsafe { self.buffer.assume_init() }, layout: self.layout }
    }
}

impl<T, D: Location, const R: usize, A: Allocator<D>> fmt::Debug for Tensor<T, D, R, A> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown::memory::<T, D>(f, "Tensor")?;
        f.debug_struct("").field("layout", &self.layout).finish()
    }
}
