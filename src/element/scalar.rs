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
    note = "`view.try_cast::<U>()?` compares the length and the address when it runs, for all types",
    note = "an element of your own is a scalar with `tidelock::scalar!(MyType => DType::U8)`"
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
/// stricter alignment. Both are [`Pod`].
#[diagnostic::on_unimplemented(
    message = "not all elements of `{T}` are whole elements of `{Self}`",
    label = "`{T}` is not always a whole number of aligned `{Self}`",
    note = "`view.try_cast::<{Self}>()?` compares the length and the address when it runs",
    note = "every bit pattern must be a value of both: elements such as `bool` are read with `view.bytes()`, and made with `bytes.checked::<bool>()?`",
    note = "the sizes of scalars and of arrays up to 1024 are known here; a longer row is an array of arrays, such as `[[f16; 1024]; 7]`"
)]
pub trait CastFrom<T>: sealed::SealedCastFrom<T> {}

#[diagnostic::do_not_recommend]
impl<T, U2> CastFrom<T> for U2
where
    T: Width + Pod,
    U2: Width + Pod,
    T::Bytes: Rem<U2::Bytes, Output = U0>,
    U2::Align: IsLessOrEqual<T::Align, Output = B1>,
{
}

/// The size of the type is a multiple of `N`. Sealed.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not fill whole groups of {N} bytes",
    label = "there would be padding behind it",
    note = "an element has no padding: take as many as fill {N} bytes, such as `[f16; 8]` for 16"
)]
pub trait Fills<const N: usize>: sealed::SealedFills<N> {}

#[diagnostic::do_not_recommend]
impl<T: Width, const N: usize> Fills<N> for T
where
    Const<N>: ToUInt,
    T::Bytes: Rem<U<N>, Output = U0>,
{
}

/// They have the parameters of the traits that they seal.
mod sealed {
    use super::{B1, Const, IsLessOrEqual, Pod, Rem, ToUInt, U, U0, Width};

    #[diagnostic::on_unimplemented(message = "`CastFrom` is sealed: it holds by itself for sizes that divide")]
    pub trait SealedCastFrom<T> {}
    #[diagnostic::do_not_recommend]
    impl<T, U2> SealedCastFrom<T> for U2
    where
        T: Width + Pod,
        U2: Width + Pod,
        T::Bytes: Rem<U2::Bytes, Output = U0>,
        U2::Align: IsLessOrEqual<T::Align, Output = B1>,
    {
    }

    #[diagnostic::on_unimplemented(message = "`Fills` is sealed: it holds by itself for sizes that divide")]
    pub trait SealedFills<const N: usize> {}
    #[diagnostic::do_not_recommend]
    impl<T: Width, const N: usize> SealedFills<N> for T
    where
        Const<N>: ToUInt,
        T::Bytes: Rem<U<N>, Output = U0>,
    {
    }
}

/// What [`CastFrom`] says, computed from the sizes: a wrong [`Width`] is found where the cast is
/// compiled.
#[inline]
pub(crate) const fn divides<T, U>() -> bool {
    size_of::<U>() != 0 && size_of::<T>().is_multiple_of(size_of::<U>()) && align_of::<U>() <= align_of::<T>()
}

/// Makes elements of your own scalars: gives each the name of a [dtype](crate::DType) of their size.
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
        // - Both are computed from the type.
        unsafe impl $crate::element::Width for $type {
            type Bytes = <$crate::element::typenum::Const<{ ::core::mem::size_of::<$type>() }> as $crate::element::typenum::ToUInt>::Output;
            type Align = <$crate::element::typenum::Const<{ ::core::mem::align_of::<$type>() }> as $crate::element::typenum::ToUInt>::Output;
        }
        impl $crate::element::Scalar for $type {
            const DTYPE: $crate::element::DType = $dtype;
        }
        const _: () = ::core::assert!(
            ::core::mem::size_of::<$type>() == <$type as $crate::element::Scalar>::DTYPE.group_bytes(),
            "the `DType` has another size than the type"
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
