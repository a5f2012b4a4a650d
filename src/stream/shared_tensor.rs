//! Tensors whose memory has several owners.

use core::{fmt, ops::RangeBounds};

use super::shared::{Shared, SharedPlace};
use crate::{
    error::{Error, Rejected, Result},
    layout::{Above, Layout, Rank},
    tensor::TensorView,
};

/// Elements of `T` in location `D`, of any layout of rank `R`, with any number of owners: a
/// [`Shared`] and a layout.
///
/// A part of it is a further owner, which keeps the memory as long as it is kept itself. What a
/// [`Shared`] can do, its [memory](SharedTensor::into_parts) can.
///
/// ```
/// use tidelock::{Result, sim};
///
/// sim::Device::default().stream(|mut stream, _env| -> Result<()> {
///     let ctx = stream.ctx().with_pool();
///     let embeddings = ctx.upload_new(&[1, 2, 3, 4, 5, 6])?.share().tensor([3, 2])?;
///     let of_sequence = embeddings.slice(0, 1..3)?; // kept with the sequence
///     drop(embeddings);
///     let rows = of_sequence.view().rows()?;
///     assert_eq!(stream.read(rows.as_view()?)?, [3, 4, 5, 6]);
///     Ok(())
/// })??;
/// # Ok::<(), tidelock::Error>(())
/// ```
pub struct SharedTensor<T, D: SharedPlace, const R: usize> {
    /// Invariant: as many elements as the layout reaches, or more.
    memory: Shared<T, D>,
    layout: Layout<R>,
}

impl<T, D: SharedPlace> Shared<T, D> {
    /// The memory as a row-major tensor. One extent may be [`REST`](crate::layout::REST).
    ///
    /// # Errors
    /// As for [`Layout::of`], with the memory.
    #[inline]
    pub fn tensor<const R: usize>(self, shape: [usize; R]) -> Result<SharedTensor<T, D, R>, Rejected<Self>> {
        match Layout::of(shape, self.len()) {
            Ok(layout) => Ok(SharedTensor { memory: self, layout }),
            Err(error) => Err(Rejected::new(error, self)),
        }
    }

    /// The elements of the memory that `layout` names.
    ///
    /// # Errors
    /// [`Error::Length`] if there are fewer elements than [`cosize`](Layout::cosize), with the
    /// memory.
    #[inline]
    pub fn strided<const R: usize>(self, layout: Layout<R>) -> Result<SharedTensor<T, D, R>, Rejected<Self>> {
        let (expected, found) = (layout.cosize(), self.len());
        if expected <= found {
            return Ok(SharedTensor { memory: self, layout });
        }
        Err(Rejected::new(Error::Length { operand: "memory", expected, found }, self))
    }
}

impl<T, D: SharedPlace, const R: usize> SharedTensor<T, D, R> {
    /// The extent of each axis.
    #[inline]
    #[must_use]
    pub const fn shape(&self) -> [usize; R] {
        self.layout.shape()
    }

    /// The layout.
    #[inline]
    #[must_use]
    pub const fn layout(&self) -> Layout<R> {
        self.layout
    }

    /// The elements, to read.
    #[inline]
    #[must_use]
    pub fn view(&self) -> TensorView<'_, T, D, R> {
        // SAFETY:
        // - The layout names elements of the memory only (the invariant of the type).
        unsafe { self.memory.view().strided_unchecked(self.layout) }
    }

    /// A further owner, of a part of one axis. Cost: a bounds check and an atomic increment.
    ///
    /// # Errors
    /// As for [`Layout::slice`].
    #[inline]
    pub fn slice(&self, axis: usize, range: impl RangeBounds<usize>) -> Result<Self> {
        let (layout, offset) = self.layout.slice(axis, range)?;
        self.part(layout, offset)
    }

    /// A further owner, of one place of an axis.
    ///
    /// # Errors
    /// As for [`Layout::select`].
    #[inline]
    pub fn select<const Q: usize>(&self, axis: usize, place: usize) -> Result<SharedTensor<T, D, Q>>
    where
        Rank<R>: Above<Q>,
    {
        let (layout, offset) = self.layout.select(axis, place)?;
        self.part(layout, offset)
    }

    /// The same owner with another layout of the same elements, as `change` makes it: a
    /// permutation, another shape.
    ///
    /// # Errors
    /// That of `change`, or [`Error::Length`] if its layout reaches beyond the memory, with the
    /// tensor.
    #[inline]
    pub fn with_layout<const Q: usize>(
        self,
        change: impl FnOnce(Layout<R>) -> Result<Layout<Q>>,
    ) -> Result<SharedTensor<T, D, Q>, Rejected<Self>> {
        let SharedTensor { memory, layout } = self;
        let changed = match change(layout) {
            Ok(changed) => changed,
            Err(error) => return Err(Rejected::new(error, SharedTensor { memory, layout })),
        };
        memory
            .strided(changed)
            .map_err(|Rejected { error, value: memory }| Rejected::new(error, SharedTensor { memory, layout }))
    }

    /// The memory and the layout. [`Shared::strided`] puts them together again, on another stream
    /// too.
    #[inline]
    #[must_use]
    pub fn into_parts(self) -> (Shared<T, D>, Layout<R>) {
        (self.memory, self.layout)
    }

    fn part<const Q: usize>(&self, layout: Layout<Q>, offset: usize) -> Result<SharedTensor<T, D, Q>> {
        let memory = self.memory.slice(offset..offset.saturating_add(layout.cosize()))?;
        Ok(SharedTensor { memory, layout })
    }
}

impl<T, D: SharedPlace, const R: usize> Clone for SharedTensor<T, D, R> {
    #[inline]
    fn clone(&self) -> Self {
        SharedTensor { memory: self.memory.clone(), layout: self.layout }
    }
}

impl<T, D: SharedPlace, const R: usize> fmt::Debug for SharedTensor<T, D, R> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedTensor").field("memory", &self.memory).field("layout", &self.layout).finish()
    }
}
