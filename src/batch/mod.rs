//! Batched copies: many copies, one submission, and the borrow checker as the no-overlap contract.

mod group;
mod storage;

use core::{fmt, marker::PhantomData};

use tidelock_driver::RowGathers;

pub use self::group::Group;
use self::storage::{Filled, Run, Storage};
use crate::{
    Element,
    buffer::{Dst, View},
    error::{Error, Result},
    location::AnyThread,
    stream::Ctx,
    stream::{BatchSource, DeviceLocation, Invariant, KernelAccessible},
};

/// Reusable storage for batches of copies. It has no lifetime of its own and holds no borrow between scopes, so that it is
/// `Send`, and serves any stream.
///
/// ```
/// use tidelock::{BatchCopy, sim};
///
/// sim::Device::default().stream(|stream, _env| {
///     let ctx = stream.ctx().with_pool();
///     let (a, b) = (ctx.zeros::<u32>(64)?, ctx.zeros::<u16>(8)?);
///     let (mut x, mut y) = (ctx.zeros::<u32>(64)?, ctx.zeros::<u16>(8)?);
///     let mut batch = BatchCopy::new();
///     batch.scope(&ctx, |batch| {
///         batch.copy(a.view(), x.view_mut())?;
///         batch.copy(b.view(), y.view_mut())
///     })?; // one submission
///     assert_eq!(batch.stats().submissions, 1);
///     Ok::<(), tidelock::Error>(())
/// })??;
/// # Ok::<(), tidelock::Error>(())
/// ```
pub struct BatchCopy {
    storage: Storage,
}

/// What a [`BatchCopy`] has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchStats {
    /// CopyBatch that were asked for in scopes that succeeded.
    pub asked: u64,
    /// CopyBatch that were left after merging, and submitted.
    pub submitted: u64,
    /// Submissions: scopes that had anything to copy.
    pub submissions: u64,
    /// Bytes submitted.
    pub bytes: u64,
}

/// The copies of one scope. They are unordered among themselves, so that every destination is borrowed exclusively.
///
/// `'env` is what the operands outlive; it is invariant, so that no operand can end before the submission.
pub struct Batch<'b, 'env, L: DeviceLocation> {
    storage: &'b mut Storage,
    brand: PhantomData<(Invariant<'env>, L)>,
}

impl BatchCopy {
    /// Storage for no copies; it grows to the largest scope and stays so.
    #[inline]
    #[must_use]
    pub fn new() -> Self {
        BatchCopy { storage: Storage::default() }
    }

    /// Collects copies in `f`, and submits them together at its end; nothing is submitted on `Err` or panic.
    ///
    /// All copies of a scope are unordered. They run after everything enqueued before the end of the scope. Sources in
    /// plain host memory are read before this returns; all others are read in stream order.
    ///
    /// Cost: one submission, whatever the number and the directions of the copies; none if there are none. On CUDA that is one
    /// to a few driver calls.
    ///
    /// # Errors
    /// What `f` returned: nothing is submitted then. Or what the driver answered: a batch of one submission is then not
    /// carried out at all; of one that takes several (tens of thousands of copies, a driver that takes them in chunks or one
    /// by one, much plain host memory beside other sources) those before the refused one are carried out, so that each
    /// destination holds what it held or, as a whole, what was to be copied. Host memory is read no more, the stream stays of
    /// use, and the batch may be submitted again.
    ///
    /// # Aborts
    /// On CUDA, where the copies are made one by one (`cuda::Batching::Loop`, or a driver or device without batches): if a
    /// copy out of plain host memory is enqueued and the stream cannot be waited for, tried twice. Such memory may be
    /// page-locked, and the device would read it after this has returned (rule R12).
    #[inline]
    pub fn scope<'env, L, A, R, E>(
        &mut self,
        ctx: &Ctx<'_, L, A>,
        f: impl for<'b> FnOnce(&'b mut Batch<'_, 'env, L>) -> Result<R, E>,
    ) -> Result<R, E>
    where
        L: DeviceLocation,
        E: From<Error>,
    {
        // A scope that panicked has left its copies behind.
        self.storage.clear();
        let answer = f(&mut Batch { storage: &mut self.storage, brand: PhantomData });
        let answer = match answer {
            Ok(value) => self.submit(ctx).map(|()| value).map_err(E::from),
            Err(error) => Err(error),
        };
        self.storage.clear();
        answer
    }

    /// What has been done so far.
    #[inline]
    #[must_use]
    pub fn stats(&self) -> BatchStats {
        self.storage.stats()
    }

    fn submit<L: DeviceLocation, A>(&mut self, ctx: &Ctx<'_, L, A>) -> Result<()> {
        let (copies, gathers) = self.storage.copies()?;
        // SAFETY:
        // - Numbers come from checked permutations, which were borrowed for 'env, which outlives the call of `scope`: they
        //   are as they were. As many as rows: the Warps compare.
        let gathers = unsafe { RowGathers::new(gathers) };
        // SAFETY:
        // - Every operand was a view that outlives 'env, which outlives the call of `scope`: sources and destinations
        //   still exist, and are then kept in stream order, as for a plain copy.
        // - Destinations were exclusively borrowed for 'env, so that none overlaps another or a source.
        // - Merged copies lie in one allocation: no two allocations are adjacent (rule R10).
        // - The storage leaves out copies of no bytes, and puts sources in plain host memory behind `host_from`.
        // - Row numbers are below the bounds that the Warps compared with the rows, or whoever made them promised it.
        unsafe { ctx.handle().batch(copies.with_gathers(gathers)) }?;
        self.storage.submitted();
        Ok(())
    }
}

impl<'env, L: DeviceLocation> Batch<'_, 'env, L> {
    /// Adds one copy.
    ///
    /// # Errors
    /// [`Error::Length`] if the lengths differ, [`Error::OutOfMemory`] if the storage cannot grow. Nothing is added then.
    #[inline]
    pub fn copy<T: Element, S: BatchSource<L>, D: KernelAccessible<L>>(
        &mut self,
        src: View<'env, T, S>,
        dst: impl Dst<'env, T, D>,
    ) -> Result<()> {
        let (dst, len) = dst.into_parts();
        if len != src.len() {
            return Err(Error::Length { operand: "dst", expected: src.len(), found: len });
        }
        let run = Run { dst: dst.as_ptr().cast(), src: src.as_ptr().cast(), bytes: src.byte_len() };
        if run.bytes == 0 {
            self.storage.count(1);
            Ok(())
        } else if S::DURING_CALL {
            self.storage.push_during_call(run)
        } else {
            self.storage.push(run)
        }
    }

    /// Adds copies that are merged where one continues the other; if `f` fails or panics, none of them is added.
    ///
    /// # Errors
    /// What `f` returned, or [`Error::OutOfMemory`] if the storage cannot grow.
    #[inline]
    pub fn group<R, E: From<Error>>(
        &mut self,
        f: impl for<'g> FnOnce(&mut Group<'g, 'env, L>) -> Result<R, E>,
    ) -> Result<R, E> {
        let mut tentative = Tentative { filled: self.storage.filled(), storage: self.storage, keep: false };
        let mut group = Group::new(tentative.storage);
        let answer = f(&mut group);
        let answer = answer.and_then(|value| group.finish().map(|()| value).map_err(E::from));
        tentative.keep = answer.is_ok();
        answer
    }
}

/// Rolls a storage back when it is dropped, unless what was added shall be kept.
struct Tentative<'b> {
    storage: &'b mut Storage,
    filled: Filled,
    keep: bool,
}

impl Drop for Tentative<'_> {
    fn drop(&mut self) {
        if !self.keep {
            self.storage.roll_back(self.filled);
        }
    }
}

// SAFETY:
// - Outside of `scope`, which borrows the storage exclusively, the addresses in it are numbers: nothing reads them, the
//   counters aside, and dropping them does nothing.
// - `scope` forgets them at its start and at its end (rule R5). A panic in a scope leaves some, which the next scope forgets
//   before its closure runs; the `Batch` is only borrowed by the closure, so that it cannot be forgotten or kept.
unsafe impl Send for BatchCopy {}
// SAFETY:
// - A shared reference gives the counters only.
unsafe impl Sync for BatchCopy {}
// SAFETY:
// - No device location is `AnyThread`: there are no such batches. Written out so that the compiler gives its reason.
unsafe impl<L: DeviceLocation + AnyThread> Send for Batch<'_, '_, L> {}
// SAFETY:
// - As above.
unsafe impl<L: DeviceLocation + AnyThread> Sync for Batch<'_, '_, L> {}
// SAFETY:
// - As above.
unsafe impl<L: DeviceLocation + AnyThread> Send for Group<'_, '_, L> {}
// SAFETY:
// - As above.
unsafe impl<L: DeviceLocation + AnyThread> Sync for Group<'_, '_, L> {}

static_assertions::assert_impl_all!(BatchCopy: Send, Sync);
static_assertions::assert_not_impl_any!(Batch<'static, 'static, crate::sim::Sim<'static>>: Send, Sync);
static_assertions::assert_not_impl_any!(Group<'static, 'static, crate::sim::Sim<'static>>: Send, Sync);

impl Default for BatchCopy {
    #[inline]
    fn default() -> Self {
        BatchCopy::new()
    }
}

impl fmt::Debug for BatchCopy {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchCopy").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl<L: DeviceLocation> fmt::Debug for Batch<'_, '_, L> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").finish_non_exhaustive()
    }
}
