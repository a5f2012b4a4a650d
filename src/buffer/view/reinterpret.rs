//! Elements read as elements of another type, where the types or the values decide that they are.

use core::ptr::NonNull;

use super::{View, ViewMut, cast_parts};
use crate::{
    element::{CastFrom, FromBytes, divides},
    error::{Error, Result},
    location::HostAccessible,
};

impl<'a, T, D> View<'a, T, D> {
    /// The same bytes, read as elements of `U`. The types decide that they are a whole number of
    /// aligned ones: a static row, an array, becomes its elements or rows of other elements.
    ///
    /// Cost: a multiplication by a constant. Where the length decides, use
    /// [`try_cast`](View::try_cast).
    ///
    /// ```
    /// use tidelock::{View, half::bf16};
    ///
    /// let rows = [[bf16::ONE; 128]; 3];
    /// assert_eq!(View::from(&rows[..]).cast::<[u8; 256]>().len(), 3);
    /// assert_eq!(View::from(&rows[..]).cast::<bf16>().len(), 384);
    /// ```
    #[inline]
    #[must_use]
    pub const fn cast<U: CastFrom<T>>(self) -> View<'a, U, D> {
        const { assert!(divides::<T, U>(), "the sizes do not divide") }
        // SAFETY:
        // - The bytes are `times` whole elements of `U` for each `T`, aligned for it: `CastFrom`,
        //   which the assertion repeats.
        // - Every bit pattern is a `U`, and every byte of a `T` is initialised: `CastFrom` requires
        //   that both are `Pod`.
        unsafe { View::from_raw_parts(self.ptr.cast(), self.len().wrapping_mul(times::<T, U>())) }
    }
}

impl<'a, T, D> ViewMut<'a, T, D> {
    /// As [`View::cast`].
    #[inline]
    #[must_use]
    pub const fn cast<U: CastFrom<T>>(self) -> ViewMut<'a, U, D> {
        const { assert!(divides::<T, U>(), "the sizes do not divide") }
        // SAFETY:
        // - As in `View::cast`. What is written is a `T` too: both are `Pod`.
        unsafe { ViewMut::from_raw_parts(self.ptr.cast(), self.len().wrapping_mul(times::<T, U>())) }
    }
}

impl<'a, D> View<'a, u8, D> {
    /// The same bytes, read as elements of `T`, whose values are compared with those that a `T` may
    /// have: the reverse of [`bytes`](View::bytes) for `bool`, and for enums and structs that
    /// derive [`CheckedBitPattern`](bytemuck::CheckedBitPattern).
    ///
    /// Cost: one pass; none for a `T` of which all bytes are a value.
    ///
    /// ```
    /// use tidelock::{Error, View};
    ///
    /// assert_eq!(View::from(&[1, 0, 1][..]).checked::<bool>()?.as_slice(), [true, false, true]);
    /// let error = View::from(&[1, 2][..]).checked::<bool>().unwrap_err();
    /// assert_eq!(error, Error::NotAValue { operand: "view", position: 1 });
    /// # Ok::<(), tidelock::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Reinterpret`] if the bytes are not a whole number of `T`, or not aligned for it;
    /// [`Error::NotAValue`] with the first element that is no `T`.
    #[inline]
    pub fn checked<T: FromBytes>(self) -> Result<View<'a, T, D>>
    where
        D: HostAccessible,
    {
        const { assert!(size_of::<T>() == size_of::<T::Bits>() && align_of::<T>() == align_of::<T::Bits>()) }
        let (ptr, len) = cast_parts::<u8, T::Bits>(self.ptr, self.len)?;
        // SAFETY:
        // - These are the bytes of `self`, as `len` whole, aligned patterns.
        // - Every byte is initialised, and all bytes are a `Bits`: `AnyBitPattern`.
        let bits: View<'a, T::Bits, D> = unsafe { View::from_raw_parts(ptr, len) };
        if let Some(position) = bits.as_slice().iter().position(|bits| !T::is_valid_bit_pattern(bits)) {
            return Err(Error::NotAValue { operand: "view", position });
        }
        let ptr: NonNull<T> = bits.ptr.cast();
        // SAFETY:
        // - `Bits` has the size and the alignment of `T`, and each is the pattern of a value, which
        //   nothing changes while it is borrowed: `T` has no interior mutability.
        Ok(unsafe { View::from_raw_parts(ptr, bits.len()) })
    }
}

/// How many elements of `U` a `T` is. No `CastFrom` has a `U` of size 0.
const fn times<T, U>() -> usize {
    match size_of::<T>().checked_div(size_of::<U>()) {
        Some(times) => times,
        None => 0,
    }
}
