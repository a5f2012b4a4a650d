//! The operands of one batch, as a driver takes them: a structure of arrays.

#![forbid(unsafe_code)]

use core::num::NonZero;

use crate::row_gather::RowGathers;

/// The copies and row gathers of one batch. What a stream does not [take](crate::RawStream::TAKES)
/// is not in it (V2).
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct CopyBatch<'a> {
    /// Where each copy goes.
    pub dst: &'a [*mut u8],
    /// Where each copy comes from.
    pub src: &'a [*const u8],
    /// The bytes of each copy, none of them 0. The three slices have one length.
    pub len: &'a [usize],
    /// Copies from this index on have sources in pageable host memory, which are read before the
    /// call returns (O6).
    pub host_from: usize,
    /// Rows that are gathered too, in stream order.
    pub gathers: RowGathers<'a>,
}

impl<'a> CopyBatch<'a> {
    /// The copies of three slices of one length, none of 0 bytes, those from `host_from` on out of
    /// pageable host memory.
    #[inline]
    #[must_use]
    pub const fn new(dst: &'a [*mut u8], src: &'a [*const u8], len: &'a [usize], host_from: usize) -> Self {
        CopyBatch { dst, src, len, host_from, gathers: RowGathers::NONE }
    }

    /// The same copies with `gathers` beside them.
    #[inline]
    #[must_use]
    pub const fn with_gathers(self, gathers: RowGathers<'a>) -> Self {
        CopyBatch { gathers, ..self }
    }

    /// The same batch with other sources, as many as before.
    #[inline]
    #[must_use]
    pub const fn with_sources(self, src: &'a [*const u8]) -> Self {
        CopyBatch { src, ..self }
    }

    /// The same batch, of which the copies from `host_from` on have sources in pageable host
    /// memory.
    #[inline]
    #[must_use]
    pub const fn with_host_from(self, host_from: usize) -> Self {
        CopyBatch { host_from, ..self }
    }

    /// The first `n` copies, if there are as many, all of which are read in stream order, and the
    /// gathers.
    #[inline]
    #[must_use]
    pub fn first(&self, n: usize) -> Option<CopyBatch<'a>> {
        let (dst, src, len) = (self.dst.get(..n)?, self.src.get(..n)?, self.len.get(..n)?);
        Some(CopyBatch { dst, src, len, host_from: n, ..*self })
    }

    /// The copies from the `n`th on, if there are as many, without the gathers.
    #[inline]
    #[must_use]
    pub fn behind(&self, n: usize) -> Option<CopyBatch<'a>> {
        let (dst, src, len) = (self.dst.get(n..)?, self.src.get(n..)?, self.len.get(n..)?);
        Some(CopyBatch::new(dst, src, len, self.host_from.saturating_sub(n)))
    }

    /// Whether there is nothing to do.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len.is_empty() && self.gathers.is_empty()
    }

    /// The copies, one after the other.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (*mut u8, *const u8, NonZero<usize>)> + 'a {
        let CopyBatch { dst, src, len, .. } = *self;
        let copies = dst.iter().zip(src).zip(len);
        copies.filter_map(|((&dst, &src), &len)| Some((dst, src, NonZero::new(len)?)))
    }
}
