//! The alignments of an arena.

#![forbid(unsafe_code)]

/// An alignment of a [`Stack`](super::Stack): a power of two from 16 to 256 bytes. Sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an alignment that a `Stack` can have",
    label = "not 16, 32, 64, 128 or 256 bytes",
    note = "write it as `Stack<L, StreamAlloc<L>, AlignTo<64>>`; without the last parameter it is 256"
)]
pub trait Alignment: sealed::Sealed {
    /// The alignment in bytes.
    const BYTES: usize;
}

/// `BYTES` bytes, as an alignment: `AlignTo<16>` to `AlignTo<256>`.
#[derive(Clone, Copy, Debug)]
pub enum AlignTo<const BYTES: usize> {}

macro_rules! alignments {
    ($($bytes:literal)*) => {$(
        impl sealed::Sealed for AlignTo<$bytes> {}
        impl Alignment for AlignTo<$bytes> {
            const BYTES: usize = $bytes;
        }
    )*};
}
alignments!(16 32 64 128 256);

mod sealed {
    /// Implemented for the alignments in this file only.
    #[diagnostic::on_unimplemented(
        message = "`Alignment` is sealed, and `{Self}` is not one that a `Stack` can have",
        label = "not `AlignTo<16>`, `AlignTo<32>`, `AlignTo<64>`, `AlignTo<128>` or `AlignTo<256>`"
    )]
    pub trait Sealed {}
}
