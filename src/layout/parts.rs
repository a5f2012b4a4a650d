//! Parts of a layout, and other orders and shapes of its axes.

#![forbid(unsafe_code)]

use core::ops::RangeBounds;

use super::{Above, AnyLayout, Layout, Rank, axes};
use crate::error::Result;

impl<const R: usize> Layout<R> {
    /// A part of one axis, and the offset of its first element, which is 0 if it has none.
    ///
    /// # Errors
    /// [`Error::Axis`](crate::Error::Axis) if there is no such axis, or if it does not have all of
    /// `range`.
    #[inline]
    pub fn slice(mut self, axis: usize, range: impl RangeBounds<usize>) -> Result<(Self, usize)> {
        let offset = axes::slice(&mut self.shape, &self.stride, axis, &range)?;
        Ok((self, offset))
    }

    /// One place of an axis, without the axis, and the offset of its first element, which is 0 if
    /// it has none.
    ///
    /// # Errors
    /// [`Error::Axis`](crate::Error::Axis) if there is no such axis, or no such place.
    #[inline]
    pub fn select<const Q: usize>(self, axis: usize, place: usize) -> Result<(Layout<Q>, usize)>
    where
        Rank<R>: Above<Q>,
    {
        let mut one = self;
        let offset = axes::select(&mut one.shape, &one.stride, axis, place)?;
        Ok((one.without(axis), offset))
    }

    /// The layout without an axis of extent 1.
    ///
    /// # Errors
    /// [`Error::Axis`](crate::Error::Axis) if there is no such axis, or if its extent is not 1.
    #[inline]
    pub fn squeeze<const Q: usize>(self, axis: usize) -> Result<Layout<Q>>
    where
        Rank<R>: Above<Q>,
    {
        axes::is_one(&self.shape, axis)?;
        Ok(self.without(axis))
    }

    /// The layout with a new axis of extent 1 and stride 0, which becomes axis `axis`.
    ///
    /// # Errors
    /// [`Error::Axis`](crate::Error::Axis) if `axis` is more than the rank.
    #[inline]
    pub fn unsqueeze<const P: usize>(self, axis: usize) -> Result<Layout<P>>
    where
        Rank<P>: Above<R>,
    {
        if axis > R {
            return Err(axes::missing("unsqueeze", axis));
        }
        let (mut shape, mut stride) = ([1; P], [0; P]);
        axes::insert(&self.shape, axis, 1, &mut shape);
        axes::insert(&self.stride, axis, 0, &mut stride);
        Ok(Layout { shape, stride })
    }

    /// The axes in another order: axis `i` is axis `axes[i]` of this layout.
    ///
    /// # Errors
    /// [`Error::Axis`](crate::Error::Axis) if an axis does not exist, or is named twice.
    #[inline]
    pub fn permute(self, axes: [usize; R]) -> Result<Self> {
        let (mut shape, mut stride) = ([0; R], [0; R]);
        axes::permute((&self.shape, &self.stride), &axes, (&mut shape, &mut stride))?;
        Ok(Layout { shape, stride })
    }

    /// Two axes in each other's place.
    ///
    /// # Errors
    /// [`Error::Axis`](crate::Error::Axis) if one does not exist.
    #[inline]
    pub fn transpose(mut self, one: usize, other: usize) -> Result<Self> {
        if let Some(axis) = [one, other].into_iter().find(|axis| *axis >= R) {
            return Err(axes::missing("transpose", axis));
        }
        self.shape.swap(one, other);
        self.stride.swap(one, other);
        Ok(self)
    }

    /// The same elements in the same order, in another shape, of which one extent may be
    /// [`REST`](super::REST). Nothing moves.
    ///
    /// The same shape gives the same layout. Else an axis is divided into several ones, and axes
    /// that continue one another become one; a layout of no elements becomes a row-major one, and
    /// an axis of extent 1 has the stride 0.
    ///
    /// # Errors
    /// [`Error::NotContiguous`](crate::Error::NotContiguous) with the new axis that would reach
    /// over a gap, [`Error::Length`](crate::Error::Length) if `shape` has another number of
    /// elements, [`Error::Axis`](crate::Error::Axis) if it has a second `REST` or one beside an
    /// extent of 0, [`Error::TooLarge`](crate::Error::TooLarge) if it has no elements and extents
    /// too large for a layout.
    #[inline]
    pub fn view<const Q: usize>(self, mut shape: [usize; Q]) -> Result<Layout<Q>> {
        const { assert!(Q <= super::MAX_RANK, "a layout has at most 8 axes") }
        axes::resolve(&mut shape, self.size())?;
        let mut stride = [0; Q];
        axes::view((&self.shape, &self.stride), &shape, &mut stride)?;
        Ok(Layout { shape, stride })
    }

    /// The layout without axes of extent 1, and with axes that continue one another as one. The
    /// order of the elements stays. A single element has rank 0.
    #[inline]
    #[must_use]
    pub fn coalesce(self) -> AnyLayout {
        self.any().coalesce()
    }

    /// The layout without `axis`, whose extent is 1.
    #[inline]
    fn without<const Q: usize>(self, axis: usize) -> Layout<Q> {
        let (mut shape, mut stride) = ([0; Q], [0; Q]);
        axes::remove(&self.shape, axis, &mut shape);
        axes::remove(&self.stride, axis, &mut stride);
        Layout { shape, stride }
    }
}
