//! The types of elements that buffers have, and their names.
//!
//! An [`Element`] can be copied byte by byte. A [`Scalar`] is an element that has a [`DType`], its
//! name in files and in other programs. Beside the types of Rust and of [`half`] there are floats
//! of 8 bits ([`f8e4m3`], [`f8e5m2`], [`f8e8m0`]), and groups of values of less than a byte
//! ([`u4x2`], [`f4e2m1x2`]), which fill their bytes.

mod align16;
mod dtype;
mod packed;
mod scalar;
mod small_float;

/// What `scalar!` computes with. In the crate that calls it `::core` may be another one.
#[doc(hidden)]
pub mod rust {
    pub use core::{
        assert,
        mem::{align_of, size_of},
    };
}

/// What `scalar!` names. Not all of the crate, so that its names stay out of messages.
#[doc(hidden)]
pub mod typenum {
    pub use ::typenum::{Const, ToUInt};
}

pub(crate) use self::scalar::divides;
#[doc(hidden)]
pub use self::scalar::{Fills, Width};
pub use self::{
    align16::Align16,
    dtype::{DType, UnknownDType},
    packed::{f4e2m1x2, f6e2m3x4, f6e3m2x4, u2x4, u4x2, u6x4},
    scalar::{CastFrom, Scalar},
    small_float::{f8e4m3, f8e5m2, f8e8m0},
};
use bytemuck::{CheckedBitPattern, NoUninit, Zeroable};
use half::{bf16, f16};

/// A type whose values can be copied byte by byte, on any device. Anyone may implement it: the
/// supertraits have the safety requirements.
///
/// [`NoUninit`] excludes padding and interior mutability: every byte of a copied range is
/// initialised, and no shared reference can change it. [`Zeroable`] makes zeroed memory a value.
/// Bit patterns are copied only from a value of the same type. To read memory as another type, both
/// types must be [`bytemuck::Pod`] ([`View::try_cast`](crate::View::try_cast)); any element can be
/// read as bytes ([`View::bytes`](crate::View::bytes)).
///
/// The trait is safe to implement for your own `#[repr(C)]` structs:
///
/// ```
/// use tidelock::{Buffer, Element, location::Host};
///
/// #[derive(Clone, Copy, bytemuck::NoUninit, bytemuck::Zeroable)]
/// # #[derive(Debug, PartialEq)]
/// #[repr(C)]
/// struct Sampling {
///     temperature: f32,
///     top_k: u32,
/// }
/// impl Element for Sampling {}
///
/// assert_eq!(Buffer::<Sampling, Host>::zeros(3)?[2], Sampling { temperature: 0.0, top_k: 0 });
/// # Ok::<(), tidelock::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an element of a device copy",
    label = "not an `Element`",
    note = "memory that is still uninitialised is written first: `ctx.init_zeros(buffer)`, `ctx.init_from(buffer, source)` or `ctx.init_with(buffer, |out| ..)` turn `Buffer<MaybeUninit<T>, ..>` into `Buffer<T, ..>`",
    note = "a struct of your own is an element once it is `#[repr(C)]`, derives `bytemuck::NoUninit` and `bytemuck::Zeroable`, and says `impl tidelock::Element for MyStruct {{}}`",
    note = "a pointer is none, because a copy of it keeps nothing alive: `ctx.table(views)` makes a table of addresses that keeps what it points to"
)]
pub trait Element: PlainBytes + Send + Sync {}

/// A type whose every byte is initialised, and of which zeroed memory is a value. Sealed:
/// implemented for every type that is both [`NoUninit`] and [`Zeroable`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not known to be plain bytes",
    label = "does not derive `bytemuck::NoUninit` and `bytemuck::Zeroable`",
    note = "`#[derive(Clone, Copy, bytemuck::NoUninit, bytemuck::Zeroable)] #[repr(C)]` proves it for a struct without padding"
)]
pub trait PlainBytes: NoUninit + Zeroable {}

#[diagnostic::do_not_recommend]
impl<T: NoUninit + Zeroable> PlainBytes for T {}

/// An element that is made from bytes by comparing them with its values
/// ([`View::checked`](crate::View::checked)). Sealed: implemented for every [`Element`] that is
/// [`CheckedBitPattern`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not made from bytes",
    label = "does not derive `bytemuck::CheckedBitPattern`",
    note = "an element of your own is, once it derives `bytemuck::CheckedBitPattern` beside `NoUninit` and `Zeroable`"
)]
pub trait FromBytes: Element + CheckedBitPattern {}

#[diagnostic::do_not_recommend]
impl<T: Element + CheckedBitPattern> FromBytes for T {}

impl Element for u8 {}
impl Element for u16 {}
impl Element for u32 {}
impl Element for u64 {}
impl Element for u128 {}
impl Element for usize {}
impl Element for i8 {}
impl Element for i16 {}
impl Element for i32 {}
impl Element for i64 {}
impl Element for i128 {}
impl Element for isize {}
impl Element for f16 {}
impl Element for bf16 {}
impl Element for f32 {}
impl Element for f64 {}
/// It can be copied, and read as bytes, but not made from bytes: `bool` is not `Pod`.
impl Element for bool {}
impl Element for f8e4m3 {}
impl Element for f8e5m2 {}
impl Element for f8e8m0 {}
impl Element for u2x4 {}
impl Element for u4x2 {}
impl Element for u6x4 {}
impl Element for f4e2m1x2 {}
impl Element for f6e2m3x4 {}
impl Element for f6e3m2x4 {}
impl<T: Element, const N: usize> Element for [T; N] where [T; N]: NoUninit {}
