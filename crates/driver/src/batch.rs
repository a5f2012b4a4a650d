//! The operands of one batch, as a backend takes them: a structure of arrays.

#![forbid(unsafe_code)]

use core::num::NonZero;

use crate::{row_gather::RowGathers, strided_copy::StridedCopies};

/// The copies, row gathers and strided copies of one batch. It has no operands but plain copies and
/// those that the stream [takes](crate::RawStream::TAKES) (V2).
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct CopyBatch<'a> {
    /// The destination of each copy.
    pub dst: &'a [*mut u8],
    /// The source of each copy.
    pub src: &'a [*const u8],
    /// The size of each copy in bytes, not 0. The three slices have the same length.
    pub len: &'a [usize],
    /// The copies from this index on have sources in pageable host memory, which are read before
    /// the call returns (O6).
    pub host_from: usize,
    /// The row gathers of the batch, which are in no order with the copies (O5).
    pub gathers: RowGathers<'a>,
    /// The strided copies of the batch, which are in no order with the others (O5, O12).
    pub strided: StridedCopies<'a>,
}

impl<'a> CopyBatch<'a> {
    /// A batch of copies, without gathers. The slices have the same length, no size is 0, and the
    /// copies from `host_from` on have sources in pageable host memory.
    #[inline]
    #[must_use]
    pub const fn new(dst: &'a [*mut u8], src: &'a [*const u8], len: &'a [usize], host_from: usize) -> Self {
        CopyBatch { dst, src, len, host_from, gathers: RowGathers::NONE, strided: StridedCopies::NONE }
    }

    /// The same copies, with `gathers` as the row gathers.
    #[inline]
    #[must_use]
    pub const fn with_gathers(self, gathers: RowGathers<'a>) -> Self {
        CopyBatch { gathers, ..self }
    }

    /// The same batch, with `strided` as the strided copies.
    #[inline]
    #[must_use]
    pub const fn with_strided(self, strided: StridedCopies<'a>) -> Self {
        CopyBatch { strided, ..self }
    }

    /// The same batch with other sources, of the same number.
    #[inline]
    #[must_use]
    pub const fn with_sources(self, src: &'a [*const u8]) -> Self {
        CopyBatch { src, ..self }
    }

    /// The same batch, with sources in pageable host memory from copy `host_from` on.
    #[inline]
    #[must_use]
    pub const fn with_host_from(self, host_from: usize) -> Self {
        CopyBatch { host_from, ..self }
    }

    /// The first `n` copies, all of which are read in stream order, and the other operands. `None`
    /// if there are fewer copies.
    #[inline]
    #[must_use]
    pub fn first(&self, n: usize) -> Option<CopyBatch<'a>> {
        let (dst, src, len) = (self.dst.get(..n)?, self.src.get(..n)?, self.len.get(..n)?);
        Some(CopyBatch { dst, src, len, host_from: n, ..*self })
    }

    /// The copies behind the first `n`, without the other operands. `None` if there are fewer
    /// copies.
    #[inline]
    #[must_use]
    pub fn behind(&self, n: usize) -> Option<CopyBatch<'a>> {
        let (dst, src, len) = (self.dst.get(n..)?, self.src.get(n..)?, self.len.get(n..)?);
        Some(CopyBatch::new(dst, src, len, self.host_from.saturating_sub(n)))
    }

    /// Whether the batch has no operand.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len.is_empty() && self.gathers.is_empty() && self.strided.is_empty()
    }

    /// The copies: destination, source and size in bytes.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (*mut u8, *const u8, NonZero<usize>)> + 'a {
        let CopyBatch { dst, src, len, .. } = *self;
        let copies = dst.iter().zip(src).zip(len);
        copies.filter_map(|((&dst, &src), &len)| Some((dst, src, NonZero::new(len)?)))
    }
}
