//! Which elements can be reinterpreted, and as how many.

#![forbid(unsafe_code)]

use core::{num::NonZero, ptr::NonNull};

use bytemuck::Pod;

use crate::error::{Error, Result};

/// Elements of `T` may be reinterpreted as elements of `Self`: both are [`Pod`]. Sealed.
#[diagnostic::on_unimplemented(
    message = "elements of `{T}` cannot be reinterpreted as elements of `{Self}`",
    label = "`{Self}` and `{T}` are not both `bytemuck::Pod`",
    note = "every bit pattern must be a value of both; a mask of `bool` is read as `view.bytes()`, copied as `bool`, or kept as `u8`"
)]
pub trait ReadAs<T>: sealed::SealedReadAs<T> {}

#[diagnostic::do_not_recommend]
impl<T: Pod, U: Pod> ReadAs<T> for U {}

/// Address and number of the elements of `U` that have the bytes of `len` elements of `T` at `ptr`.
///
/// For types of one size the number stays; this covers two types of size 0. Otherwise bytes can be
/// divided into elements of size 0 only if there are no bytes.
#[inline]
pub(super) fn cast_parts<T, U>(ptr: NonNull<T>, len: usize) -> Result<(NonNull<U>, usize)> {
    let bytes = len.wrapping_mul(size_of::<T>());
    let count = match NonZero::new(size_of::<U>()) {
        _ if size_of::<U>() == size_of::<T>() => Some(len),
        Some(size) if bytes.is_multiple_of(size.get()) => Some(bytes / size),
        None if bytes == 0 => Some(0),
        _ => None,
    };
    let ptr = ptr.cast::<U>();
    match count {
        Some(count) if ptr.is_aligned() => Ok((ptr, count)),
        // No byte is accessed through this address, but references to it must be aligned.
        Some(count) if bytes == 0 => Ok((NonNull::dangling(), count)),
        _ => Err(Error::Reinterpret { operand: "view", size: size_of::<U>() }),
    }
}

/// It has the parameter of the trait that it seals.
mod sealed {
    /// Implemented for plain old data only.
    #[diagnostic::on_unimplemented(
        message = "`ReadAs` is sealed, and `{Self}` and `{T}` are not both `bytemuck::Pod`",
        label = "not both `bytemuck::Pod`",
        note = "`ReadAs` holds by itself for two types that are `bytemuck::Pod`: derive that where every bit pattern is a value"
    )]
    pub trait SealedReadAs<T> {}
    #[diagnostic::do_not_recommend]
    impl<T: bytemuck::Pod, U: bytemuck::Pod> SealedReadAs<T> for U {}
}
