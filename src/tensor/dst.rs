//! What a tensor can be copied to.

#![forbid(unsafe_code)]

use core::mem::MaybeUninit;

use super::TensorMut;
use crate::{Element, layout::Layout, location::Location};

/// A destination for the elements of a tensor: a [`TensorMut`] of `T` or of `MaybeUninit<T>`.
/// Sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a destination for a tensor of `{T}` in `{D}` with {R} axes",
    label = "expected `TensorMut<'_, {T}, {D}, {R}>`",
    note = "a tensor is a destination through `tensor.view_mut()`, and a view through `view_mut.tensor([..])?`",
    note = "source and destination have one rank: `squeeze`, `unsqueeze`, `select` and `view` change it"
)]
pub trait TensorDst<'a, T, D, const R: usize>: Sized + sealed::SealedTensorDst<'a, T, D, R> {
    /// The address and the layout, which is injective.
    #[doc(hidden)]
    fn into_parts(self) -> (*mut T, Layout<R>);
}

impl<'a, T: Element, D: Location, const R: usize> TensorDst<'a, T, D, R> for TensorMut<'a, T, D, R> {
    #[inline]
    fn into_parts(mut self) -> (*mut T, Layout<R>) {
        (self.as_mut_ptr(), self.layout())
    }
}

impl<'a, T: Element, D: Location, const R: usize> TensorDst<'a, T, D, R> for TensorMut<'a, MaybeUninit<T>, D, R> {
    #[inline]
    fn into_parts(mut self) -> (*mut T, Layout<R>) {
        (self.as_mut_ptr().cast(), self.layout())
    }
}

/// It has the parameters of the trait that it seals, so that a type of another crate as one of them
/// does not satisfy the supertrait either.
mod sealed {
    use core::mem::MaybeUninit;

    use crate::{Element, location::Location, tensor::TensorMut};

    pub trait SealedTensorDst<'a, T, D, const R: usize> {}
    impl<'a, T: Element, D: Location, const R: usize> SealedTensorDst<'a, T, D, R> for TensorMut<'a, T, D, R> {}
    impl<'a, T: Element, D: Location, const R: usize> SealedTensorDst<'a, T, D, R> for TensorMut<'a, MaybeUninit<T>, D, R> {}
}
