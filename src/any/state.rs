//! The state of sequences whose element is a value.

#![forbid(unsafe_code)]

use core::{fmt, num::NonZero};

use crate::{
    alloc::Allocator,
    buffer::{ReadAs, Rows, RowsMut, shown},
    element::{DType, Scalar},
    error::{Error, Result},
    location::Location,
    state::State,
    stream::{Ctx, DeviceLocation, HasAlloc},
    tensor::{TensorMut, TensorView},
};

/// A [`State`] of rows of elements of a `DType`: its Warps move bytes, and kernels get typed
/// tensors.
///
/// A `bool` is no type of the tensors, because not every byte is one: `u8` is.
///
/// ```
/// use tidelock::{BatchCopy, DType, Permutation, Result, any::AnyState, half::bf16, sim};
///
/// sim::Device::default().stream(|stream, _env| -> Result<()> {
///     let ctx = stream.ctx().with_pool();
///     // The logits of 4 sequences, of 16 elements each.
///     let mut logits = AnyState::zeros(&ctx, DType::Bf16, 4, 16)?;
///     let survivors = Permutation::new(&[2, 0], 4, 0)?;
///     let mut batch = BatchCopy::new();
///     logits.step(|front, back| batch.scope(&ctx, |b| b.group(|g| g.warp(front, survivors, back.first(2)?))))?;
///     assert_eq!(logits.front::<bf16>()?.shape(), [4, 16]);
///     assert!(logits.front::<f32>().is_err());
///     Ok(())
/// })??;
/// # Ok::<(), tidelock::Error>(())
/// ```
pub struct AnyState<D: Location, A: Allocator<D> = <D as Location>::DefaultAlloc> {
    /// Invariant: a whole number of rows.
    state: State<u8, D, A>,
    dtype: DType,
    /// Bytes of a row: a whole number of elements.
    row: NonZero<usize>,
}

impl<L: DeviceLocation, A: Allocator<L>> AnyState<L, A> {
    /// Two buffers of zeroes, each of `rows` rows of `width` elements, from the device allocator of
    /// `ctx`.
    ///
    /// # Errors
    /// [`Error::Length`] if a row has no elements, [`Error::TooLarge`] if the bytes overflow, or as
    /// for [`Ctx::zeros`].
    #[inline]
    pub fn zeros<X>(ctx: &Ctx<'_, L, X>, dtype: DType, rows: usize, width: usize) -> Result<Self>
    where
        X: HasAlloc<L, Alloc = A>,
        A: Copy,
    {
        let too_large = Error::TooLarge { operand: "width" };
        let row = width.checked_mul(dtype.group_bytes()).ok_or(too_large)?;
        let row = NonZero::new(row).ok_or(Error::Length { operand: "row", expected: 1, found: 0 })?;
        let bytes = row.get().checked_mul(rows).ok_or(too_large)?;
        Ok(AnyState { state: State::zeros(ctx, bytes)?, dtype, row })
    }
}

impl<D: Location, A: Allocator<D>> AnyState<D, A> {
    /// The name of the element.
    #[inline]
    #[must_use]
    pub const fn dtype(&self) -> DType {
        self.dtype
    }

    /// How many rows each of the two buffers has.
    #[inline]
    #[must_use]
    pub fn row_count(&self) -> usize {
        self.state.len().checked_div(self.row.get()).unwrap_or(0)
    }

    /// The bytes of a row.
    #[inline]
    #[must_use]
    pub const fn row_bytes(&self) -> NonZero<usize> {
        self.row
    }

    /// The rows of the present state to read, and those of the next one to write, for a batch over
    /// several states. Call [`swap`](AnyState::swap) after the batch succeeds.
    ///
    /// # Errors
    /// None for a state that [`zeros`](AnyState::zeros) made.
    #[inline]
    pub fn both(&mut self) -> Result<(Rows<'_, u8, D>, RowsMut<'_, u8, D>)> {
        let row = self.row;
        let (front, back) = self.state.both();
        Ok((front.rows(row)?, back.rows(row)?))
    }

    /// Makes the next state the present one. No driver call.
    #[inline]
    pub const fn swap(&mut self) {
        self.state.swap();
    }

    /// Calls `f` to write the next state from the present one, and swaps them if it succeeds.
    ///
    /// # Errors
    /// The error of `f`; nothing is swapped then.
    #[inline]
    pub fn step<R>(&mut self, f: impl FnOnce(Rows<'_, u8, D>, RowsMut<'_, u8, D>) -> Result<R>) -> Result<R> {
        let (front, back) = self.both()?;
        let value = f(front, back)?;
        self.swap();
        Ok(value)
    }

    /// The present state, as rows of `T`.
    ///
    /// # Errors
    /// [`Error::Element`] if `T` has another `DType`.
    #[inline]
    pub fn front<T: Scalar + ReadAs<u8>>(&self) -> Result<TensorView<'_, T, D, 2>> {
        let shape = self.shape::<T>()?;
        self.state.front().try_cast::<T>()?.tensor(shape)
    }

    /// The present state, as rows of `T`, to change it in place.
    ///
    /// # Errors
    /// As for [`front`](AnyState::front).
    #[inline]
    pub fn front_mut<T: Scalar + ReadAs<u8>>(&mut self) -> Result<TensorMut<'_, T, D, 2>> {
        let shape = self.shape::<T>()?;
        self.state.front_mut().try_cast::<T>()?.tensor(shape)
    }

    /// The rows and the elements of a row.
    fn shape<T: Scalar>(&self) -> Result<[usize; 2]> {
        if T::DTYPE != self.dtype {
            let (expected, found) = (T::DTYPE.name(), self.dtype.name());
            return Err(Error::Element { operand: "state", expected, found });
        }
        Ok([self.row_count(), self.row.get().checked_div(self.dtype.group_bytes()).unwrap_or(0)])
    }
}

impl<D: Location, A: Allocator<D>> fmt::Debug for AnyState<D, A> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown::memory::<u8, D>(f, "AnyState")?;
        f.debug_struct("").field("dtype", &self.dtype).field("rows", &self.row_count()).finish_non_exhaustive()
    }
}
