//! Row numbers in device memory: an uploaded permutation, or numbers that a kernel has written.

use core::fmt;

use super::Permutation;
use crate::{
    alloc::Allocator,
    buffer::{Buffer, Indices, View},
    error::Result,
    stream::DeviceLocation,
    stream::{Ctx, HasAlloc, StreamAlloc},
};

/// A permutation whose row numbers are in device memory as well: checked once, and uploaded once
/// for many Warps.
///
/// With the copy kernels, a Warp by it reads the row numbers on the device, and its batch carries
/// none. Without them, it is a Warp by the row numbers on the host.
///
/// ```
/// use tidelock::{BatchCopy, Permutation, sim, state::DevicePermutation};
/// use std::num::NonZero;
///
/// let seen = sim::Device::default().stream(|mut stream, _env| {
///     let ctx = stream.ctx().with_pool();
///     let width = NonZero::new(2).unwrap();
///     let layers = [ctx.upload_new(&[0_u32, 1, 2, 3, 4, 5])?, ctx.upload_new(&[6, 7, 8, 9, 10, 11])?];
///     let mut packed = [ctx.zeros::<u32>(4)?, ctx.zeros::<u32>(4)?];
///     let survivors = DevicePermutation::upload(&ctx, Permutation::new(&[2, 0], 3, 0)?)?;
///     BatchCopy::new().scope(&ctx, |batch| {
///         batch.group(|group| {
///             for (layer, packed) in layers.iter().zip(&mut packed) {
///                 let (from, to) = (layer.view().rows(width)?, packed.view_mut().rows(width)?);
///                 group.warp_by(from, survivors.numbers(), to)?;
///             }
///             Ok(())
///         })
///     })?;
///     let seen = ctx.init_from(ctx.alloc_pinned(4)?.stage(&ctx), packed[1].view())?.reclaim(&stream.synchronize()?);
///     Ok::<_, tidelock::Error>(seen.to_vec())
/// })??;
/// assert_eq!(seen, [10, 11, 6, 7]);
/// # Ok::<(), tidelock::Error>(())
/// ```
pub struct DevicePermutation<'p, L: DeviceLocation, A: Allocator<L> = StreamAlloc<L>> {
    permutation: Permutation<'p>,
    /// Invariant: the row numbers of `permutation`, in stream order. They are only handed out to be
    /// read.
    rows: Buffer<u32, L, A>,
}

/// Row numbers in device memory, borrowed for Warps: for every position of the next batch, the row
/// that it takes. `Copy`.
pub struct RowNumbers<'env, L> {
    /// Invariant: every element is below `old + joining` when the stream reaches a batch that uses
    /// it.
    rows: View<'env, u32, L>,
    /// The same row numbers on the host, if they are there.
    host: Option<Indices<'env>>,
    old: usize,
    joining: usize,
}

impl<'p, L: DeviceLocation, X: Allocator<L>> DevicePermutation<'p, L, X> {
    /// Uploads the row numbers of `permutation`. Cost: an allocation and an upload of 4 bytes a
    /// row.
    ///
    /// # Errors
    /// As for [`Ctx::upload_new`].
    #[inline]
    pub fn upload<A>(ctx: &Ctx<'_, L, A>, permutation: Permutation<'p>) -> Result<Self>
    where
        A: HasAlloc<L, Alloc = X>,
    {
        Ok(DevicePermutation { permutation, rows: ctx.upload_new(permutation.indices().as_slice())? })
    }

    /// The permutation, on the host.
    #[inline]
    #[must_use]
    pub const fn permutation(&self) -> Permutation<'p> {
        self.permutation
    }

    /// The row numbers, in device memory.
    #[inline]
    #[must_use]
    pub const fn numbers(&self) -> RowNumbers<'_, L> {
        let Permutation { rows, old } = self.permutation;
        RowNumbers { rows: self.rows.view(), host: Some(rows), old, joining: self.permutation.joining() }
    }
}

impl<'env, L: DeviceLocation> RowNumbers<'env, L> {
    /// Row numbers that were not checked, such as those that a kernel writes: `0 .. old` are rows
    /// of the present batch, `old + k` is row `k` of the rows that join.
    ///
    /// On CUDA they need the copy kernels. Without these, a batch by such numbers fails with
    /// `NOT_SUPPORTED`.
    ///
    /// # Safety
    /// - Every element of `rows` is below `old + joining` when the stream reaches a batch that uses
    ///   it.
    #[inline]
    #[must_use]
    pub const unsafe fn unchecked(rows: View<'env, u32, L>, old: usize, joining: usize) -> Self {
        RowNumbers { rows, host: None, old, joining }
    }

    /// The row numbers.
    #[inline]
    #[must_use]
    pub const fn as_view(self) -> View<'env, u32, L> {
        self.rows
    }

    /// How many rows the next batch has.
    #[inline]
    #[must_use]
    pub const fn len(self) -> usize {
        self.rows.len()
    }

    /// Whether the next batch is empty.
    #[inline]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.rows.is_empty()
    }

    /// How many rows the present batch has.
    #[inline]
    #[must_use]
    pub const fn old(self) -> usize {
        self.old
    }

    /// How many rows join.
    #[inline]
    #[must_use]
    pub const fn joining(self) -> usize {
        self.joining
    }

    /// The same row numbers on the host, if they are there.
    pub(crate) const fn on_host(self) -> Option<Indices<'env>> {
        self.host
    }
}

impl<L> Clone for RowNumbers<'_, L> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}
impl<L> Copy for RowNumbers<'_, L> {}

impl<L: DeviceLocation, A: Allocator<L>> fmt::Debug for DevicePermutation<'_, L, A> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevicePermutation").field("permutation", &self.permutation).finish_non_exhaustive()
    }
}

impl<L> fmt::Debug for RowNumbers<'_, L> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowNumbers").field("old", &self.old).field("joining", &self.joining).finish_non_exhaustive()
    }
}
