//! Row numbers in device memory: a permutation that was uploaded, or numbers that only the device knows.

use core::fmt;

use super::Permutation;
use crate::{
    alloc::Allocator,
    buffer::{Buffer, Indices, View},
    error::Result,
    stream::DeviceLocation,
    stream::{Ctx, HasAlloc, StreamAlloc},
};

/// A permutation whose row numbers are on the device as well: validated, and uploaded once for many Warps.
///
/// Where the copy kernels are, a Warp by it delivers no row numbers with its batch. Elsewhere it is a Warp by the host's.
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
///             Ok::<(), tidelock::Error>(())
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
    /// Invariant: the numbers of `permutation`, in stream order. They are handed out to read only.
    rows: Buffer<u32, L, A>,
}

/// Row numbers in device memory, borrowed for Warps: for every position of the next batch, the row it takes. `Copy`.
pub struct RowNumbers<'env, L> {
    /// Invariant: every element is below `old + joining` when the stream reaches a batch that they are used in.
    rows: View<'env, u32, L>,
    /// The same on the host, if the host knows them.
    host: Option<Indices<'env>>,
    old: usize,
    joining: usize,
}

impl<'p, L: DeviceLocation, X: Allocator<L>> DevicePermutation<'p, L, X> {
    /// Uploads the row numbers of `permutation`. Cost: an allocation and an upload of 4 bytes a row.
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

    /// The row numbers, on the device.
    #[inline]
    #[must_use]
    pub const fn numbers(&self) -> RowNumbers<'_, L> {
        let Permutation { rows, old } = self.permutation;
        RowNumbers { rows: self.rows.view(), host: Some(rows), old, joining: self.permutation.joining() }
    }
}

impl<'env, L: DeviceLocation> RowNumbers<'env, L> {
    /// Row numbers that a kernel has written, and nobody has checked: `0 .. old` are rows of the present batch, `old + k` is
    /// row `k` of the rows that join.
    ///
    /// On CUDA they need the copy kernels: without them a batch by such numbers is refused with `NOT_SUPPORTED`.
    ///
    /// # Safety
    /// - Every element of `rows` is below `old + joining` when the stream reaches a batch that they are used in.
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

    /// The same on the host, if the host knows them.
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
