//! The type of an element, as a value.

#![forbid(unsafe_code)]

use core::any::TypeId;

use crate::{
    element::{DType, Scalar},
    error::{Error, Result},
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
        Err(Error::Element { operand: "tensor", expected: T::DTYPE.name(), found: self.dtype.name() })
    }
}
