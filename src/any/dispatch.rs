//! The type of a function by a value.

#![forbid(unsafe_code)]

/// Evaluates an expression with the type of a list whose [`DType`](crate::DType) is `dtype`.
///
/// `dispatch!(dtype, T in [f16, bf16] => expression)` is a `Result` of the expression, in which `T`
/// is the type. The first type of the name is taken.
///
/// # Errors
/// [`Error::Element`](crate::Error::Element) if the list has no type of this name.
///
/// ```
/// use tidelock::{DType, Error, half::{bf16, f16}};
///
/// fn width(dtype: DType) -> Result<usize, Error> {
///     tidelock::dispatch!(dtype, T in [f16, bf16, f32] => size_of::<T>())
/// }
/// assert_eq!((width(DType::Bf16)?, width(DType::F32)?), (2, 4));
/// assert_eq!(width(DType::I8).unwrap_err().to_string(), "the elements of `dtype` are i8 where one of f16, bf16, f32 is needed");
/// # Ok::<(), tidelock::Error>(())
/// ```
#[macro_export]
macro_rules! dispatch {
    ($dtype:expr, $name:ident in [$($type:ty),+ $(,)?] => $body:expr) => {{
        let dtype: $crate::DType = $dtype;
        // No labelled block: `continue` and `break` of the body would not compile in it.
        $(
            if dtype == <$type as $crate::Scalar>::DTYPE {
                type $name = $type;
                ::core::result::Result::Ok($body)
            } else
        )+ {
            ::core::result::Result::Err($crate::Error::Element {
                operand: "dtype",
                expected: ::core::concat!("one of ", ::core::stringify!($($type),+)),
                found: dtype.name(),
            })
        }
    }};
}
