//! Parts of borrowed tensors, and other orders and shapes of their axes.

use core::{ops::RangeBounds, ptr::NonNull};

use super::{TensorMut, TensorView};
use crate::{
    error::Result,
    layout::{Above, Rank},
};

/// The methods that both borrowed tensors have. Each takes the elements of a part of the layout: no
/// element is added, and no element is named twice that was not before.
macro_rules! parts {
    ($tensor:ident) => {
        impl<'a, T, D, const R: usize> $tensor<'a, T, D, R> {
            /// A part of one axis.
            ///
            /// # Errors
            /// As for [`Layout::slice`](crate::Layout::slice).
            #[inline]
            pub fn slice(self, axis: usize, range: impl RangeBounds<usize>) -> Result<Self> {
                let (layout, offset) = self.layout().slice(axis, range)?;
                // SAFETY:
                // - The layout names a part of the elements.
                Ok(unsafe { $tensor::new(moved(self.as_nonnull(), offset), layout) })
            }

            /// One place of an axis, without the axis.
            ///
            /// # Errors
            /// As for [`Layout::select`](crate::Layout::select).
            #[inline]
            pub fn select<const Q: usize>(self, axis: usize, place: usize) -> Result<$tensor<'a, T, D, Q>>
            where
                Rank<R>: Above<Q>,
            {
                let (layout, offset) = self.layout().select(axis, place)?;
                // SAFETY:
                // - As in `slice`.
                Ok(unsafe { $tensor::new(moved(self.as_nonnull(), offset), layout) })
            }

            /// The tensor without an axis of extent 1.
            ///
            /// # Errors
            /// As for [`Layout::squeeze`](crate::Layout::squeeze).
            #[inline]
            pub fn squeeze<const Q: usize>(self, axis: usize) -> Result<$tensor<'a, T, D, Q>>
            where
                Rank<R>: Above<Q>,
            {
                let layout = self.layout().squeeze(axis)?;
                // SAFETY:
                // - The layout names the same elements.
                Ok(unsafe { $tensor::new(self.as_nonnull(), layout) })
            }

            /// The tensor with a new axis of extent 1, which becomes axis `axis`.
            ///
            /// # Errors
            /// As for [`Layout::unsqueeze`](crate::Layout::unsqueeze).
            #[inline]
            pub fn unsqueeze<const P: usize>(self, axis: usize) -> Result<$tensor<'a, T, D, P>>
            where
                Rank<P>: Above<R>,
            {
                let layout = self.layout().unsqueeze(axis)?;
                // SAFETY:
                // - The layout names the same elements.
                Ok(unsafe { $tensor::new(self.as_nonnull(), layout) })
            }

            /// The axes in another order: axis `i` is axis `axes[i]` of this tensor.
            ///
            /// # Errors
            /// As for [`Layout::permute`](crate::Layout::permute).
            #[inline]
            pub fn permute(self, axes: [usize; R]) -> Result<Self> {
                let layout = self.layout().permute(axes)?;
                // SAFETY:
                // - The layout names the same elements.
                Ok(unsafe { $tensor::new(self.as_nonnull(), layout) })
            }

            /// Two axes in each other's place.
            ///
            /// # Errors
            /// As for [`Layout::transpose`](crate::Layout::transpose).
            #[inline]
            pub fn transpose(self, one: usize, other: usize) -> Result<Self> {
                let layout = self.layout().transpose(one, other)?;
                // SAFETY:
                // - The layout names the same elements.
                Ok(unsafe { $tensor::new(self.as_nonnull(), layout) })
            }

            /// The same elements in the same order, in another shape, of which one extent may be
            /// [`REST`](crate::layout::REST). Nothing moves.
            ///
            /// # Errors
            /// As for [`Layout::view`](crate::Layout::view).
            #[inline]
            pub fn view<const Q: usize>(self, shape: [usize; Q]) -> Result<$tensor<'a, T, D, Q>> {
                let layout = self.layout().view(shape)?;
                // SAFETY:
                // - The layout names the same elements.
                Ok(unsafe { $tensor::new(self.as_nonnull(), layout) })
            }

            /// The places of an axis below `mid`, and the others. For columns of one matrix, two
            /// tensors whose elements interleave.
            ///
            /// # Errors
            /// [`Error::Axis`](crate::Error::Axis) if there is no such axis, or if it has fewer
            /// places.
            #[inline]
            pub fn split_at(self, axis: usize, mid: usize) -> Result<(Self, Self)> {
                let split = |error: crate::Error| error.named("split_at");
                let (low, _) = self.layout().slice(axis, ..mid).map_err(split)?;
                let (high, offset) = self.layout().slice(axis, mid..).map_err(split)?;
                let ptr = self.as_nonnull();
                // SAFETY:
                // - The two name disjoint parts of the elements.
                let low = unsafe { $tensor::new(ptr, low) };
                // SAFETY:
                // - As above.
                Ok((low, unsafe { $tensor::new(moved(ptr, offset), high) }))
            }
        }
    };
}

parts!(TensorView);
parts!(TensorMut);

/// The address of the element at `offset`, which is one of a tensor that begins at `ptr`.
///
/// No such address is null. The comparison costs less than an unchecked conversion.
#[inline]
fn moved<T>(ptr: NonNull<T>, offset: usize) -> NonNull<T> {
    // Wrapping: `add` requires an object on the host, and a device address has none.
    NonNull::new(ptr.as_ptr().wrapping_add(offset)).unwrap_or(ptr)
}
