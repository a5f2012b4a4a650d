//! Why an allocation failed.

#![forbid(unsafe_code)]

use core::alloc::Layout;

use crate::{
    code::{Code, DriverError},
    error::{Error, Shortage},
    widen,
};

/// Why an allocation failed. It is small, so that the fast path of an arena returns it in
/// registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AllocError {
    /// There is not enough memory.
    OutOfMemory,
    /// The allocator has no memory with this alignment, in bytes.
    Alignment(u32),
    /// The driver refused for another reason.
    Driver(Code),
    /// The stream is poisoned by an earlier failure.
    Poisoned(Code),
}

impl AllocError {
    /// The error for a layout whose alignment is larger than the allocator's.
    #[doc(hidden)]
    #[cold]
    #[inline(never)]
    #[must_use]
    pub fn alignment(layout: Layout) -> AllocError {
        // The largest alignment of a type is 2^29.
        AllocError::Alignment(u32::try_from(layout.align()).unwrap_or(u32::MAX))
    }

    /// The error of a request for `bytes` bytes in `location`, with the memory that is left there.
    #[doc(hidden)]
    #[cold]
    #[inline(never)]
    #[must_use]
    pub fn explained(self, location: &'static str, bytes: usize, shortage: impl FnOnce() -> Option<Shortage>) -> Error {
        let named = |code| DriverError::new("an allocation", code);
        match self {
            AllocError::OutOfMemory => Error::OutOfMemory { location, bytes, shortage: shortage() },
            AllocError::Alignment(align) => Error::Alignment { location, align: widen(align) },
            AllocError::Driver(code) => Error::Driver(named(code)),
            AllocError::Poisoned(code) => Error::Poisoned(named(code)),
        }
    }
}

impl From<DriverError> for AllocError {
    #[inline]
    fn from(error: DriverError) -> Self {
        match error.code {
            Code::OUT_OF_MEMORY => AllocError::OutOfMemory,
            code if code.is_sticky() => AllocError::Poisoned(code),
            code => AllocError::Driver(code),
        }
    }
}
