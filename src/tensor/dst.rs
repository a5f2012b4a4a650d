//! What a tensor can be copied to.

#![forbid(unsafe_code)]

use core::mem::MaybeUninit;

use super::{OutputTensor, TensorMut};
use crate::{
    Element,
    buffer::{Counter, Dst, Output},
    error::{Error, Result},
    layout::Layout,
    location::Location,
};

/// A destination for the elements of a tensor: a [`TensorMut`] of `T` or of `MaybeUninit<T>`, an
/// [`Output`], which takes them row by row, or an [`OutputTensor`]. Sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a destination for a tensor of `{T}` in `{D}` with {R} axes",
    label = "expected `TensorMut<'_, {T}, {D}, {R}>`",
    note = "a tensor is a destination through `tensor.view_mut()`, and a view through `view_mut.tensor([..])?`",
    note = "an output takes the elements row by row: `ctx.init_with(memory, |out| ctx.copy_tensor(src, out))`; for parts of it: `out.tensor([..])?`",
    note = "source and destination have one rank: `squeeze`, `unsqueeze`, `select` and `view` change it"
)]
pub trait TensorDst<'a, T, D, const R: usize>: Sized + sealed::SealedTensorDst<'a, T, D, R> {
    /// The parts of the destination for a tensor of this shape.
    #[doc(hidden)]
    fn into_parts(self, shape: [usize; R]) -> Result<Parts<'a, T, R>>;
}

/// The parts of a destination.
#[doc(hidden)]
#[derive(Debug)]
pub struct Parts<'a, T, const R: usize> {
    /// The address of the first element.
    pub(crate) ptr: *mut T,
    /// It names no element twice.
    pub(crate) layout: Layout<R>,
    /// What counts the elements, if it is an output.
    pub(crate) counter: Option<&'a Counter>,
}

impl<'a, T: Element, D: Location, const R: usize> TensorDst<'a, T, D, R> for TensorMut<'a, T, D, R> {
    #[inline]
    fn into_parts(mut self, _: [usize; R]) -> Result<Parts<'a, T, R>> {
        Ok(Parts { ptr: self.as_mut_ptr(), layout: self.layout(), counter: None })
    }
}

impl<'a, T: Element, D: Location, const R: usize> TensorDst<'a, T, D, R> for TensorMut<'a, MaybeUninit<T>, D, R> {
    #[inline]
    fn into_parts(mut self, _: [usize; R]) -> Result<Parts<'a, T, R>> {
        Ok(Parts { ptr: self.as_mut_ptr().cast(), layout: self.layout(), counter: None })
    }
}

impl<'a, T: Element, D: Location, const R: usize> TensorDst<'a, T, D, R> for Output<'a, T, D> {
    #[inline]
    fn into_parts(self, shape: [usize; R]) -> Result<Parts<'a, T, R>> {
        let layout = Layout::new(shape)?;
        let (expected, found) = (layout.size(), self.len());
        if expected != found {
            return Err(Error::Length { operand: "dst", expected, found });
        }
        let counter = Output::counter(&self);
        Ok(Parts { ptr: Dst::<T, D>::into_parts(self).0.as_ptr(), layout, counter: Some(counter) })
    }
}

impl<'a, T: Element, D: Location, const R: usize> TensorDst<'a, T, D, R> for OutputTensor<'a, T, D, R> {
    #[inline]
    fn into_parts(self, _: [usize; R]) -> Result<Parts<'a, T, R>> {
        let (mut tensor, counter) = self.into_raw();
        Ok(Parts { ptr: tensor.as_mut_ptr().cast(), layout: tensor.layout(), counter: Some(counter) })
    }
}

/// It has the parameters of the trait that it seals, so that a type of another crate as one of them
/// does not satisfy the supertrait either.
mod sealed {
    use core::mem::MaybeUninit;

    use crate::{
        Element,
        buffer::Output,
        location::Location,
        tensor::{OutputTensor, TensorMut},
    };

    pub trait SealedTensorDst<'a, T, D, const R: usize> {}
    impl<'a, T: Element, D: Location, const R: usize> SealedTensorDst<'a, T, D, R> for TensorMut<'a, T, D, R> {}
    impl<'a, T: Element, D: Location, const R: usize> SealedTensorDst<'a, T, D, R> for TensorMut<'a, MaybeUninit<T>, D, R> {}
    impl<'a, T: Element, D: Location, const R: usize> SealedTensorDst<'a, T, D, R> for Output<'a, T, D> {}
    impl<'a, T: Element, D: Location, const R: usize> SealedTensorDst<'a, T, D, R> for OutputTensor<'a, T, D, R> {}
}
