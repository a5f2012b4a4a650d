//! Strided copies, as an operand of a batch.

#![forbid(unsafe_code)]

use crate::loops::Loops;

/// A copy of runs of one length in nested loops (O12). Both addresses are those of the first run.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct StridedCopy {
    /// The destination.
    pub dst: *mut u8,
    /// The source.
    pub src: *const u8,
    /// The runs, at least one.
    pub loops: Loops,
}

impl StridedCopy {
    /// The copy of `loops` from `src` to `dst`.
    #[inline]
    #[must_use]
    pub const fn new(dst: *mut u8, src: *const u8, loops: Loops) -> Self {
        StridedCopy { dst, src, loops }
    }

    /// The destination and the source of each run.
    #[inline]
    pub fn runs(&self) -> impl Iterator<Item = (*mut u8, *const u8)> {
        self.loops.iter().map(|(src, dst)| (self.dst.wrapping_add(dst), self.src.wrapping_add(src)))
    }
}
