//! Shapes and strides: where the elements of a tensor lie.
//!
//! A [`Layout`] has its rank in its type, and an [`AnyLayout`] has it as a value. All numbers count
//! elements. A layout is checked when it is made, and each part of it is a layout again, so that
//! nothing is checked later but indices.
//!
//! ```
//! use tidelock::layout::{Layout, REST};
//!
//! let pages = Layout::new([20, 50])?;
//! assert_eq!(pages.to_string(), "(20,50):(50,1)");
//! // Columns 10 to 40 of it, which start behind ten elements.
//! let (columns, offset) = pages.slice(1, 10..40)?;
//! assert_eq!((columns.to_string(), offset), ("(20,30):(50,1)".into(), 10));
//! assert_eq!(columns.view([2, REST, 3, 10])?.to_string(), "(2,10,3,10):(500,50,10,1)");
//! assert!(columns.view([600]).is_err()); // there is a gap between the rows
//! # Ok::<(), tidelock::Error>(())
//! ```

#![forbid(unsafe_code)]

mod any;
mod axes;
mod parts;
mod plan;
mod rank;

use core::fmt;

pub use self::{
    any::AnyLayout,
    rank::{Above, Rank},
};
pub(crate) use self::{
    axes::advance,
    plan::{BlockPlan, plan, plan_blocks},
};
use crate::error::Result;

/// The extent in a shape that stands for as many as there are.
pub const REST: usize = usize::MAX;

/// The largest rank.
pub const MAX_RANK: usize = 8;

/// Shape and stride of a tensor of rank `R`, in elements. `Copy`, `2 R` words.
///
/// Element `[i, j, ..]` lies `i * stride[0] + j * stride[1] + ..` elements behind the first one.
/// Extents of 0 and 1 and strides of 0 are allowed; strides are not negative. A program that makes
/// a layout of a rank above 8 does not build (`cargo build`; `cargo check` does not see it):
///
/// ```compile_fail,E0080
/// let nine = tidelock::Layout::new([1; 9]);
/// ```
///
/// ```compile_fail,E0080
/// let nine = tidelock::Layout::strided([1; 9], [1; 9]);
/// ```
///
/// ```compile_fail,E0080
/// let nine = tidelock::Layout::of([1; 9], 1);
/// ```
///
/// ```compile_fail,E0080
/// let nine = tidelock::Layout::new([1; 8]).and_then(|eight| eight.view([1; 9]));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Layout<const R: usize> {
    /// Invariant: with extents of 0 counted as 1, the product of the shape, each stride, and one
    /// more than the largest offset are at most `isize::MAX`.
    shape: [usize; R],
    stride: [usize; R],
}

impl<const R: usize> Layout<R> {
    /// The row-major layout of `shape`: the last axis has stride 1.
    ///
    /// # Errors
    /// [`Error::TooLarge`](crate::Error::TooLarge) if there are more than `isize::MAX` elements,
    /// extents of 0 counted as 1.
    #[inline]
    pub fn new(shape: [usize; R]) -> Result<Self> {
        const { assert!(R <= MAX_RANK, "a layout has at most 8 axes") }
        let mut stride = [0; R];
        axes::row_major(&shape, &mut stride)?;
        Ok(Layout { shape, stride })
    }

    /// The row-major layout of `size` elements. One extent of `shape` may be [`REST`].
    ///
    /// # Errors
    /// [`Error::Length`](crate::Error::Length) if `shape` has another number of elements,
    /// [`Error::Axis`](crate::Error::Axis) if it has a second `REST` or one beside an extent of 0,
    /// [`Error::TooLarge`](crate::Error::TooLarge) as for [`new`](Layout::new).
    #[inline]
    pub fn of(mut shape: [usize; R], size: usize) -> Result<Self> {
        axes::resolve(&mut shape, size)?;
        Layout::new(shape)
    }

    /// A layout of any strides, also those by which two indices name one element.
    ///
    /// # Errors
    /// [`Error::TooLarge`](crate::Error::TooLarge) if there are more than `isize::MAX` elements, or
    /// if an element is farther away, extents of 0 counted as 1.
    #[inline]
    pub fn strided(shape: [usize; R], stride: [usize; R]) -> Result<Self> {
        const { assert!(R <= MAX_RANK, "a layout has at most 8 axes") }
        axes::check(&shape, &stride)?;
        Ok(Layout { shape, stride })
    }

    /// The extent of each axis.
    #[inline]
    #[must_use]
    pub const fn shape(&self) -> [usize; R] {
        self.shape
    }

    /// The stride of each axis.
    #[inline]
    #[must_use]
    pub const fn stride(&self) -> [usize; R] {
        self.stride
    }

    /// How many elements there are: the product of the extents.
    #[inline]
    #[must_use]
    pub fn size(&self) -> usize {
        axes::size(&self.shape)
    }

    /// How many elements the memory has: one more than the largest offset, 0 if there is no
    /// element.
    #[inline]
    #[must_use]
    pub fn cosize(&self) -> usize {
        axes::cosize(&self.shape, &self.stride)
    }

    /// Whether the elements are adjacent, in order. Strides of axes of extent 1 do not count, and
    /// no elements are contiguous.
    #[inline]
    #[must_use]
    pub fn is_contiguous(&self) -> bool {
        axes::first_gap(&self.shape, &self.stride).is_none()
    }

    /// Refuses a layout that is not [contiguous](Layout::is_contiguous).
    ///
    /// # Errors
    /// [`Error::NotContiguous`](crate::Error::NotContiguous) with the innermost axis that does not
    /// continue the axes inside of it.
    #[inline]
    pub fn contiguous(&self, operand: &'static str) -> Result<()> {
        axes::contiguous(&self.shape, &self.stride, operand)
    }

    /// Whether no two indices name one element, as nested strides show: sorted by stride, each
    /// stride is larger than all that the smaller ones reach.
    ///
    /// `true` is a proof. Layouts whose strides interleave, such as `(2,3):(3,2)`, give `false`
    /// although no element of them is named twice. Parts, permutations and views of injective
    /// layouts are injective.
    #[inline]
    #[must_use]
    pub fn is_injective(&self) -> bool {
        axes::alias(&self.shape, &self.stride).is_none()
    }

    /// Refuses a layout that is not [injective](Layout::is_injective).
    ///
    /// # Errors
    /// [`Error::Aliases`](crate::Error::Aliases) with the axis along which two indices may name one
    /// element.
    #[inline]
    pub fn injective(&self, operand: &'static str) -> Result<()> {
        axes::injective(&self.shape, &self.stride, operand)
    }

    /// Where the element of `index` lies.
    ///
    /// # Errors
    /// [`Error::Axis`](crate::Error::Axis) if an axis has no such place.
    #[inline]
    pub fn offset(&self, index: [usize; R]) -> Result<usize> {
        axes::offset(&self.shape, &self.stride, &index)
    }

    /// The same layout, with its rank as a value.
    #[inline]
    #[must_use]
    pub fn any(self) -> AnyLayout {
        AnyLayout::from(self)
    }
}

impl<const R: usize> fmt::Display for Layout<R> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        axes::show(&self.shape, &self.stride, f)
    }
}

impl<const R: usize> fmt::Debug for Layout<R> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        axes::show(&self.shape, &self.stride, f)
    }
}

static_assertions::assert_eq_size!(Layout<3>, [usize; 6]);
