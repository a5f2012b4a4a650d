//! Row numbers: a permutation on the host, on the device, or one that only the device knows.

#![forbid(unsafe_code)]

use core::{fmt, ptr};

use super::{Permutation, unchecked::UncheckedPermutation};
use crate::{
    alloc::{Allocator, HasAlloc, StreamAlloc},
    buffer::{Buffer, Indices, View},
    error::Result,
    location::{BatchSource, DeviceLocation, KernelAccessible},
    stream::Ctx,
};

/// A permutation whose row numbers are on the device as well: validated, and uploaded once for many Warps.
///
/// Where the copy kernels are, a Warp by it delivers no row numbers with its batch. Elsewhere it is a Warp by the host's.
///
/// ```
/// use tidelock::{BatchCopy, DevicePermutation, Permutation, sim};
/// use std::num::NonZero;
///
/// sim::Device::default().stream(|stream, _env| {
///     let ctx = stream.ctx().with_pool();
///     let width = NonZero::new(2).unwrap();
///     let layers = [ctx.upload_new(&[0_u32, 1, 2, 3, 4, 5])?, ctx.upload_new(&[6, 7, 8, 9, 10, 11])?];
///     let mut packed = [ctx.zeros::<u32>(4)?, ctx.zeros::<u32>(4)?];
///     let survivors = DevicePermutation::upload(&ctx, Permutation::new(&[2, 0], 3, 0)?)?;
///     BatchCopy::new().scope(&ctx, |b| {
///         b.group(|g| {
///             for (layer, packed) in layers.iter().zip(&mut packed) {
///                 g.warp(layer.view().rows(width)?, &survivors, packed.view_mut().rows(width)?)?;
///             }
///             Ok::<(), tidelock::Error>(())
///         })
///     })?;
///     # let mut seen = ctx.pinned::<u32>(4)?;
///     # Ok::<(), tidelock::Error>(())
/// })??;
/// # Ok::<(), tidelock::Error>(())
/// ```
pub struct DevicePermutation<'p, L: DeviceLocation, A: Allocator<L> = StreamAlloc<L>> {
    permutation: Permutation<'p>,
    /// Invariant: the numbers of `permutation`, in stream order. They are handed out to read only.
    rows: Buffer<u32, L, A>,
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
        Ok(DevicePermutation { permutation, rows: ctx.upload_new(permutation.rows().as_slice())? })
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
    pub const fn rows(&self) -> View<'_, u32, L> {
        self.rows.view()
    }
}

/// What says which row goes where in a Warp: a [`Permutation`], a borrowed [`DevicePermutation`], or an
/// [`UncheckedPermutation`]. Sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say which row goes where in a batch of stream `{L}`",
    label = "expected a `Permutation`, a `&DevicePermutation` or an `UncheckedPermutation` of this stream",
    note = "row numbers on the host are checked by `Permutation::new(&numbers, old, joining)?`"
)]
pub trait RowNumbers<'env, L: DeviceLocation>: sealed::Sealed {
    #[doc(hidden)]
    fn parts(&self) -> Parts<'_>;
}

/// Row numbers that can be applied to rows in `S`. Sealed.
///
/// Numbers that only the device knows pick rows that kernels can reach.
#[diagnostic::on_unimplemented(
    message = "rows in `{S}` cannot be picked by `{Self}`",
    label = "only the device knows these row numbers, and its kernels do not reach `{S}`",
    note = "upload the rows first, or say which row goes where with a `Permutation`"
)]
pub trait Picks<S, L: DeviceLocation>: sealed::Sealed {}

/// Row numbers, whoever knows them.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// On the host, if the host knows them.
    pub(crate) host: Option<Indices<'a>>,
    /// On the device; null if they are not there.
    pub(crate) device: *const u32,
    pub(crate) len: usize,
    pub(crate) old: usize,
    pub(crate) joining: usize,
}

impl<L: DeviceLocation> RowNumbers<'_, L> for Permutation<'_> {
    #[inline]
    fn parts(&self) -> Parts<'_> {
        let (len, old, joining) = (self.len(), self.old(), self.joining());
        Parts { host: Some(self.rows()), device: ptr::null(), len, old, joining }
    }
}
impl<S: BatchSource<L>, L: DeviceLocation> Picks<S, L> for Permutation<'_> {}

impl<'env, L: DeviceLocation, A: Allocator<L>> RowNumbers<'env, L> for &'env DevicePermutation<'_, L, A> {
    #[inline]
    fn parts(&self) -> Parts<'_> {
        let on_host = RowNumbers::<L>::parts(&self.permutation);
        Parts { device: self.rows.as_ptr(), ..on_host }
    }
}
impl<S: BatchSource<L>, L: DeviceLocation, A: Allocator<L>> Picks<S, L> for &DevicePermutation<'_, L, A> {}

impl<'env, L: DeviceLocation> RowNumbers<'env, L> for UncheckedPermutation<'env, L> {
    #[inline]
    fn parts(&self) -> Parts<'_> {
        let rows = self.rows();
        Parts { host: None, device: rows.as_ptr(), len: rows.len(), old: self.old(), joining: self.joining() }
    }
}
impl<S: KernelAccessible<L>, L: DeviceLocation> Picks<S, L> for UncheckedPermutation<'_, L> {}

mod sealed {
    use super::{Allocator, DeviceLocation, DevicePermutation, Permutation, UncheckedPermutation};

    pub trait Sealed {}
    impl Sealed for Permutation<'_> {}
    impl<L: DeviceLocation, A: Allocator<L>> Sealed for &DevicePermutation<'_, L, A> {}
    impl<L: DeviceLocation> Sealed for UncheckedPermutation<'_, L> {}
}

impl<L: DeviceLocation, A: Allocator<L>> fmt::Debug for DevicePermutation<'_, L, A> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevicePermutation").field("permutation", &self.permutation).finish_non_exhaustive()
    }
}
