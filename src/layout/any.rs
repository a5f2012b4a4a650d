//! A layout whose rank is a value.

#![forbid(unsafe_code)]

use core::{fmt, ops::RangeBounds};

use super::{Layout, MAX_RANK, axes};
use crate::error::{Error, Result};

/// A layout whose rank is a value, at most 8: of tensors in maps, in files and of other programs.
/// `Copy`, 17 words.
///
/// [`rank`](AnyLayout::rank) puts the rank into the type, and [`Layout::any`] does the reverse.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AnyLayout {
    /// Invariant: at most [`MAX_RANK`].
    rank: usize,
    /// Invariants: the first `rank` entries of both are as those of [`Layout`], and the others are
    /// 0.
    shape: [usize; MAX_RANK],
    stride: [usize; MAX_RANK],
}

impl AnyLayout {
    /// The row-major layout of `shape`.
    ///
    /// # Errors
    /// [`Error::Rank`] if there are more than 8 axes, [`Error::TooLarge`] as for [`Layout::new`].
    #[inline]
    pub fn new(shape: &[usize]) -> Result<Self> {
        let mut any = AnyLayout::with_shape(shape)?;
        let (shape, stride) = any.parts_mut();
        axes::row_major(shape, stride)?;
        Ok(any)
    }

    /// As [`Layout::of`].
    ///
    /// # Errors
    /// [`Error::Rank`] if there are more than 8 axes, or as for [`Layout::of`].
    #[inline]
    pub fn of(shape: &[usize], size: usize) -> Result<Self> {
        let mut any = AnyLayout::with_shape(shape)?;
        let (shape, stride) = any.parts_mut();
        axes::resolve(shape, size)?;
        axes::row_major(shape, stride)?;
        Ok(any)
    }

    /// A layout of any strides.
    ///
    /// # Errors
    /// [`Error::Rank`] if there are more than 8 axes, or another number of strides than of extents,
    /// [`Error::TooLarge`] as for [`Layout::strided`].
    #[inline]
    pub fn strided(shape: &[usize], stride: &[usize]) -> Result<Self> {
        let mut any = AnyLayout::with_shape(shape)?;
        if stride.len() != shape.len() {
            return Err(Error::Rank { operand: "stride", expected: shape.len(), found: stride.len() });
        }
        axes::check(shape, stride)?;
        any.parts_mut().1.copy_from_slice(stride);
        Ok(any)
    }

    /// How many axes there are.
    #[inline]
    #[must_use]
    pub const fn axes(&self) -> usize {
        self.rank
    }

    /// The extent of each axis.
    #[inline]
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        self.shape.get(..self.rank).unwrap_or(&[])
    }

    /// The stride of each axis.
    #[inline]
    #[must_use]
    pub fn stride(&self) -> &[usize] {
        self.stride.get(..self.rank).unwrap_or(&[])
    }

    /// As [`Layout::size`].
    #[inline]
    #[must_use]
    pub fn size(&self) -> usize {
        axes::size(self.shape())
    }

    /// As [`Layout::cosize`].
    #[inline]
    #[must_use]
    pub fn cosize(&self) -> usize {
        axes::cosize(self.shape(), self.stride())
    }

    /// As [`Layout::is_contiguous`].
    #[inline]
    #[must_use]
    pub fn is_contiguous(&self) -> bool {
        axes::first_gap(self.shape(), self.stride()).is_none()
    }

    /// As [`Layout::contiguous`].
    ///
    /// # Errors
    /// As for [`Layout::contiguous`].
    #[inline]
    pub fn contiguous(&self, operand: &'static str) -> Result<()> {
        axes::contiguous(self.shape(), self.stride(), operand)
    }

    /// As [`Layout::is_injective`].
    #[inline]
    #[must_use]
    pub fn is_injective(&self) -> bool {
        axes::alias(self.shape(), self.stride()).is_none()
    }

    /// As [`Layout::injective`].
    ///
    /// # Errors
    /// As for [`Layout::injective`].
    #[inline]
    pub fn injective(&self, operand: &'static str) -> Result<()> {
        axes::injective(self.shape(), self.stride(), operand)
    }

    /// Where the element of `index` lies.
    ///
    /// # Errors
    /// [`Error::Rank`] if `index` has another number of places than the layout has axes,
    /// [`Error::Axis`] if an axis has no such place.
    #[inline]
    pub fn offset(&self, index: &[usize]) -> Result<usize> {
        self.has("index", index.len())?;
        axes::offset(self.shape(), self.stride(), index)
    }

    /// As [`Layout::slice`].
    ///
    /// # Errors
    /// As for [`Layout::slice`].
    #[inline]
    pub fn slice(mut self, axis: usize, range: impl RangeBounds<usize>) -> Result<(Self, usize)> {
        let (shape, stride) = self.parts_mut();
        let offset = axes::slice(shape, stride, axis, &range)?;
        Ok((self, offset))
    }

    /// As [`Layout::select`].
    ///
    /// # Errors
    /// As for [`Layout::select`].
    #[inline]
    pub fn select(mut self, axis: usize, place: usize) -> Result<(Self, usize)> {
        let (shape, stride) = self.parts_mut();
        let offset = axes::select(shape, stride, axis, place)?;
        Ok((self.squeeze(axis)?, offset))
    }

    /// As [`Layout::squeeze`].
    ///
    /// # Errors
    /// As for [`Layout::squeeze`].
    #[inline]
    pub fn squeeze(self, axis: usize) -> Result<Self> {
        axes::is_one(self.shape(), axis)?;
        let mut squeezed = AnyLayout { rank: self.rank.saturating_sub(1), ..AnyLayout::POINT };
        let (shape, stride) = squeezed.parts_mut();
        axes::remove(self.shape(), axis, shape);
        axes::remove(self.stride(), axis, stride);
        Ok(squeezed)
    }

    /// As [`Layout::unsqueeze`].
    ///
    /// # Errors
    /// [`Error::Rank`] if there are 8 axes already, [`Error::Axis`] if `axis` is more than the
    /// rank.
    #[inline]
    pub fn unsqueeze(self, axis: usize) -> Result<Self> {
        if self.rank == MAX_RANK {
            return Err(Error::Rank { operand: "unsqueeze", expected: MAX_RANK, found: self.rank.saturating_add(1) });
        }
        if axis > self.rank {
            return Err(axes::missing("unsqueeze", axis));
        }
        let mut more = AnyLayout { rank: self.rank.saturating_add(1), ..AnyLayout::POINT };
        let (shape, stride) = more.parts_mut();
        axes::insert(self.shape(), axis, 1, shape);
        axes::insert(self.stride(), axis, 0, stride);
        Ok(more)
    }

    /// As [`Layout::permute`].
    ///
    /// # Errors
    /// As for [`Layout::permute`], and [`Error::Rank`] if `axes` does not name every axis.
    #[inline]
    pub fn permute(self, axes: &[usize]) -> Result<Self> {
        self.has("axes", axes.len())?;
        let mut permuted = AnyLayout { rank: self.rank, ..AnyLayout::POINT };
        axes::permute((self.shape(), self.stride()), axes, permuted.parts_mut())?;
        Ok(permuted)
    }

    /// As [`Layout::transpose`].
    ///
    /// # Errors
    /// As for [`Layout::transpose`].
    #[inline]
    pub fn transpose(mut self, one: usize, other: usize) -> Result<Self> {
        if let Some(axis) = [one, other].into_iter().find(|axis| *axis >= self.rank) {
            return Err(axes::missing("transpose", axis));
        }
        self.shape.swap(one, other);
        self.stride.swap(one, other);
        Ok(self)
    }

    /// As [`Layout::view`].
    ///
    /// # Errors
    /// As for [`Layout::view`], and [`Error::Rank`] if `shape` has more than 8 axes.
    #[inline]
    pub fn view(self, shape: &[usize]) -> Result<Self> {
        let mut view = AnyLayout::with_shape(shape)?;
        let (shape, stride) = view.parts_mut();
        axes::resolve(shape, self.size())?;
        axes::view((self.shape(), self.stride()), shape, stride)?;
        Ok(view)
    }

    /// As [`Layout::coalesce`].
    #[inline]
    #[must_use]
    pub fn coalesce(self) -> Self {
        let mut merged = [(1, 1); MAX_RANK];
        let merged = axes::coalesce(self.shape(), self.stride(), &mut merged);
        let mut coalesced = AnyLayout { rank: merged.len(), ..AnyLayout::POINT };
        let (shape, stride) = coalesced.parts_mut();
        for ((shape, stride), axis) in shape.iter_mut().zip(stride).zip(merged.iter().rev()) {
            (*shape, *stride) = *axis;
        }
        coalesced
    }

    /// The layout with its rank in its type.
    ///
    /// # Errors
    /// [`Error::Rank`] if it has another one.
    #[inline]
    pub fn rank<const R: usize>(&self) -> Result<Layout<R>> {
        match (self.shape().try_into(), self.stride().try_into()) {
            (Ok(shape), Ok(stride)) => Ok(Layout { shape, stride }),
            _ => Err(Error::Rank { operand: "layout", expected: R, found: self.rank }),
        }
    }

    /// One element, of rank 0.
    const POINT: AnyLayout = AnyLayout { rank: 0, shape: [0; MAX_RANK], stride: [0; MAX_RANK] };

    fn with_shape(shape: &[usize]) -> Result<Self> {
        let mut any = AnyLayout { rank: shape.len(), ..AnyLayout::POINT };
        let Some(place) = any.shape.get_mut(..shape.len()) else {
            return Err(Error::Rank { operand: "shape", expected: MAX_RANK, found: shape.len() });
        };
        place.copy_from_slice(shape);
        Ok(any)
    }

    #[inline]
    fn parts_mut(&mut self) -> (&mut [usize], &mut [usize]) {
        let shape = self.shape.get_mut(..self.rank).unwrap_or(&mut []);
        (shape, self.stride.get_mut(..self.rank).unwrap_or(&mut []))
    }

    #[inline]
    fn has(&self, operand: &'static str, axes: usize) -> Result<()> {
        if axes == self.rank { Ok(()) } else { Err(Error::Rank { operand, expected: self.rank, found: axes }) }
    }
}

impl<const R: usize> From<Layout<R>> for AnyLayout {
    #[inline]
    fn from(layout: Layout<R>) -> AnyLayout {
        const { assert!(R <= MAX_RANK, "a layout has at most 8 axes") }
        let mut any = AnyLayout { rank: R, ..AnyLayout::POINT };
        let (shape, stride) = any.parts_mut();
        shape.copy_from_slice(&layout.shape);
        stride.copy_from_slice(&layout.stride);
        any
    }
}

impl fmt::Display for AnyLayout {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        axes::show(self.shape(), self.stride(), f)
    }
}

impl fmt::Debug for AnyLayout {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        axes::show(self.shape(), self.stride(), f)
    }
}

static_assertions::assert_eq_size!(AnyLayout, [usize; 17]);
