//! Elements that have a [`DType`], and the sizes of elements as types.

use core::ops::{Mul, Rem};

use bytemuck::{NoUninit, Pod};
use half::{bf16, f16};
use typenum::{B1, Const, IsLessOrEqual, Prod, ToUInt, U, U0, Unsigned};

use super::{DType, Element, f4e2m1x2, f6e2m3x4, f6e3m2x4, f8e4m3, f8e5m2, f8e8m0, u2x4, u4x2, u6x4};

/// An element that has a [`DType`]. Anyone may implement it: [`scalar!`](crate::scalar) does.
///
/// The `DType` is a name. No proof relies on it: what has lost its type gets it back by comparing
/// types.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no `DType`",
    label = "not a `Scalar`",
    note = "values of less than a byte come in groups that fill bytes: `u4x2`, `f4e2m1x2`, `f6e3m2x4`",
    note = "an element of your own gets a `DType` with `tidelock::scalar!(MyType => DType::U8)`; a struct is an element, and no scalar"
)]
pub trait Scalar: Width {
    /// The name.
    const DTYPE: DType;
}

/// The size and the alignment of an element as types. Unsafe to implement.
/// [`scalar!`](crate::scalar) does, and so do arrays.
///
/// # Safety
/// - `Bytes` is the size of the type, and `Align` its alignment.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "the size of `{Self}` is not known as a type",
    label = "neither a scalar nor an array of them",
    note = "the sizes of scalars and of arrays up to 1024 are known; a longer row is an array of arrays, such as `[[f16; 1024]; 7]`",
    note = "`view.try_cast::<U>()?` compares the length and the address when it runs, for all types that are `bytemuck::Pod`",
    note = "an element of your own is a scalar with `tidelock::scalar!(MyType => DType::U8)`; a struct is aligned by `#[repr(C, align(16))]` on it, without `Align16`"
)]
pub unsafe trait Width: Element {
    /// The size.
    type Bytes: Unsigned;
    /// The alignment.
    type Align: Unsigned;
}

#[diagnostic::do_not_recommend]
// SAFETY:
// - An array has the size of its elements together, and their alignment.
unsafe impl<T: Width, const N: usize> Width for [T; N]
where
    [T; N]: NoUninit,
    Const<N>: ToUInt<Output: Unsigned + Mul<T::Bytes, Output: Unsigned>>,
{
    type Bytes = Prod<U<N>, T::Bytes>;
    type Align = T::Align;
}

/// Elements of `T` are always whole, aligned elements of `Self`. Sealed.
///
/// `cargo check` decides: the size of `T` is a multiple of that of `Self`, and `Self` needs no
/// stricter alignment. Both are [`Pod`]. Generic code has it as a bound:
///
/// ```
/// use tidelock::{View, element::CastFrom, half::f16};
///
/// fn vectors<const N: usize, D>(rows: View<'_, [f16; N], D>) -> View<'_, [u8; 16], D>
/// where
///     [u8; 16]: CastFrom<[f16; N]>,
/// {
///     rows.cast()
/// }
///
/// assert_eq!(vectors(View::from(&[[f16::ONE; 128]; 2][..])).len(), 32);
/// ```
#[diagnostic::on_unimplemented(
    message = "not all elements of `{T}` are whole elements of `{Self}`",
    label = "`{T}` is not always a whole number of aligned `{Self}`",
    note = "if both are `bytemuck::Pod`, `view.try_cast::<{Self}>()?` compares the length and the address when it runs",
    note = "every bit pattern must be a value of both: elements such as `bool` are read with `view.bytes()`, and made with `bytes.checked::<bool>()?`",
    note = "the sizes of scalars and of arrays up to 1024 are known here; a longer row is an array of arrays, such as `[[f16; 1024]; 7]`",
    note = "generic code leaves it to its caller: `where {Self}: tidelock::element::CastFrom<{T}>`"
)]
pub trait CastFrom<T>: sealed::SealedCastFrom<T> {}

#[diagnostic::do_not_recommend]
impl<T, To> CastFrom<T> for To
where
    T: Width + Pod,
    To: Width + Pod,
    T::Bytes: Rem<To::Bytes, Output = U0>,
    To::Align: IsLessOrEqual<T::Align, Output = B1>,
{
}

/// The size of the type is a multiple of `N`, its alignment is at most `N`, and every bit pattern
/// is a value. Sealed.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not fill whole groups of {N} bytes with plain data",
    label = "padding would follow, or not every bit pattern is a value of it",
    note = "an element has no padding: take as many as fill {N} bytes, such as `[f16; 8]` for 16",
    note = "flags of one byte are `u8` here: `[u8; 16]` and not `[bool; 16]`"
)]
pub trait Fills<const N: usize>: Pod + sealed::SealedFills<N> {}

#[diagnostic::do_not_recommend]
impl<T: Width + Pod, const N: usize> Fills<N> for T
where
    Const<N>: ToUInt,
    T::Bytes: Rem<U<N>, Output = U0>,
    T::Align: IsLessOrEqual<U<N>, Output = B1>,
{
}

/// They have the parameters of the traits that they seal.
mod sealed {
    use super::{B1, Const, IsLessOrEqual, Pod, Rem, ToUInt, U, U0, Width};

    #[diagnostic::on_unimplemented(message = "`CastFrom` is sealed: it holds by itself for sizes that divide")]
    pub trait SealedCastFrom<T> {}
    #[diagnostic::do_not_recommend]
    impl<T, To> SealedCastFrom<T> for To
    where
        T: Width + Pod,
        To: Width + Pod,
        T::Bytes: Rem<To::Bytes, Output = U0>,
        To::Align: IsLessOrEqual<T::Align, Output = B1>,
    {
    }

    #[diagnostic::on_unimplemented(message = "`Fills` is sealed: it holds by itself for sizes that divide")]
    pub trait SealedFills<const N: usize> {}
    #[diagnostic::do_not_recommend]
    impl<T: Width + Pod, const N: usize> SealedFills<N> for T
    where
        Const<N>: ToUInt,
        T::Bytes: Rem<U<N>, Output = U0>,
        T::Align: IsLessOrEqual<U<N>, Output = B1>,
    {
    }
}

/// What [`CastFrom`] says, computed from the sizes: a wrong [`Width`] is found where the cast is
/// compiled.
#[inline]
pub(crate) const fn divides<T, U>() -> bool {
    size_of::<U>() != 0 && size_of::<T>().is_multiple_of(size_of::<U>()) && align_of::<U>() <= align_of::<T>()
}

/// Makes elements of your own scalars: gives each the name of a [dtype](crate::DType) of their
/// size.
///
/// It needs no `unsafe`, and does not compile for a `DType` of another size.
///
/// ```
/// use tidelock::{DType, Element, Scalar};
///
/// #[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
/// #[repr(transparent)]
/// struct Logit(f32);
/// impl Element for Logit {}
/// tidelock::scalar!(Logit => DType::F32);
///
/// assert_eq!(Logit::DTYPE, DType::F32);
/// ```
#[macro_export]
macro_rules! scalar {
    ($($type:ty => $dtype:expr),+ $(,)?) => {$(
        // SAFETY:
        // - Both are computed from the type, by functions that no crate can replace: its `::core`
        //   may be another.
        unsafe impl $crate::element::Width for $type {
            type Bytes = <$crate::element::typenum::Const<{ $crate::element::rust::size_of::<$type>() }> as $crate::element::typenum::ToUInt>::Output;
            type Align = <$crate::element::typenum::Const<{ $crate::element::rust::align_of::<$type>() }> as $crate::element::typenum::ToUInt>::Output;
        }
        impl $crate::element::Scalar for $type {
            const DTYPE: $crate::element::DType = $dtype;
        }
        const _: () = $crate::element::rust::assert!(
            $crate::element::rust::size_of::<$type>() == <$type as $crate::element::Scalar>::DTYPE.group_bytes(),
            "the `DType` has another size than the type: a `u64` has one of 64 bits, and a group of values of less than a byte has `group_bytes` bytes"
        );
    )+};
}

scalar! {
    bool => DType::Bool,
    u8 => DType::U8,
    u16 => DType::U16,
    u32 => DType::U32,
    u64 => DType::U64,
    i8 => DType::I8,
    i16 => DType::I16,
    i32 => DType::I32,
    i64 => DType::I64,
    f16 => DType::F16,
    bf16 => DType::Bf16,
    f32 => DType::F32,
    f64 => DType::F64,
    f8e4m3 => DType::F8E4M3,
    f8e5m2 => DType::F8E5M2,
    f8e8m0 => DType::F8E8M0,
    u2x4 => DType::U2,
    u4x2 => DType::U4,
    u6x4 => DType::U6,
    f4e2m1x2 => DType::F4E2M1,
    f6e2m3x4 => DType::F6E2M3,
    f6e3m2x4 => DType::F6E3M2,
}
