//! The bytes that an operation touches.

#![forbid(unsafe_code)]

/// Bytes that an operation touches, as the caller addresses them.
#[derive(Clone, Copy, Debug)]
pub struct Use {
    pub(super) ptr: *const u8,
    pub(super) bytes: usize,
    pub(super) writes: bool,
}

impl Use {
    /// `bytes` bytes at `ptr` are read.
    #[inline]
    #[must_use]
    pub const fn read(ptr: *const u8, bytes: usize) -> Use {
        Use { ptr, bytes, writes: false }
    }

    /// `bytes` bytes at `ptr` are written, and perhaps read.
    #[inline]
    #[must_use]
    pub const fn write(ptr: *const u8, bytes: usize) -> Use {
        Use { ptr, bytes, writes: true }
    }
}
