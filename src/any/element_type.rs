//! The type of an element, as a value.

#![forbid(unsafe_code)]

use core::any::TypeId;

use crate::{
    element::{DType, Scalar},
    error::{Error, Result},
    layout::AnyLayout,
};

/// The type of an element: what a downcast compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ElementType {
    id: TypeId,
    dtype: DType,
    /// The size in bytes.
    size: usize,
}

impl ElementType {
    pub(super) fn of<T: Scalar>() -> Self {
        // A `DType` of another size would be the name of other memory in a file.
        const { assert!(size_of::<T>() == T::DTYPE.group_bytes(), "the `DType` has another size than the type") }
        ElementType { id: TypeId::of::<T>(), dtype: T::DTYPE, size: size_of::<T>() }
    }

    pub(super) const fn dtype(self) -> DType {
        self.dtype
    }

    pub(super) const fn size(self) -> usize {
        self.size
    }

    /// # Errors
    /// [`Error::Element`] if it is not `T`.
    pub(super) fn is<T: Scalar>(self) -> Result<()> {
        if self.id == TypeId::of::<T>() {
            return Ok(());
        }
        if self.dtype == T::DTYPE {
            let (expected, found) = (core::any::type_name::<T>(), "another type with the same `DType`");
            return Err(Error::Element { operand: "tensor", expected, found });
        }
        Err(Error::Element { operand: "tensor", expected: T::DTYPE.name(), found: self.dtype.name() })
    }
}

/// The row-major layout of `shape`, in elements of `dtype` that have `bytes` bytes together.
///
/// # Errors
/// As for [`AnyLayout::new`], or [`Error::Length`] if they have not.
pub(super) fn row_major(dtype: DType, shape: &[usize], bytes: usize) -> Result<AnyLayout> {
    let (layout, size) = (AnyLayout::new(shape)?, dtype.group_bytes());
    if layout.size().checked_mul(size) == Some(bytes) {
        return Ok(layout);
    }
    let found = bytes.checked_div(size).unwrap_or(0);
    Err(Error::Length { operand: "bytes", expected: layout.size(), found })
}

/// Evaluates an expression with the library's own scalar of a `DType`.
macro_rules! with_scalar {
    ($dtype:expr, $name:ident => $body:expr) => {{
        use $crate::{
            DType,
            element::{f4e2m1x2, f6e2m3x4, f6e3m2x4, f8e4m3, f8e5m2, f8e8m0, u2x4, u4x2, u6x4},
            half::{bf16, f16},
        };
        $crate::any::element_type::with_scalar!(@match $dtype, $name, $body;
            Bool bool, U8 u8, U16 u16, U32 u32, U64 u64, I8 i8, I16 i16, I32 i32, I64 i64, F16 f16, Bf16 bf16, F32 f32,
            F64 f64, F8E4M3 f8e4m3, F8E5M2 f8e5m2, F8E8M0 f8e8m0, U2 u2x4, U4 u4x2, U6 u6x4, F4E2M1 f4e2m1x2,
            F6E2M3 f6e2m3x4, F6E3M2 f6e3m2x4)
    }};
    (@match $dtype:expr, $name:ident, $body:expr; $($dtype_name:ident $type:ty),+) => {
        match $dtype {
            $(DType::$dtype_name => {
                type $name = $type;
                $body
            })+
        }
    };
}
pub(super) use with_scalar;
