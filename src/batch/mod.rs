//! Batched copies: many copies in one submission. The borrow checker proves that they do not
//! overlap.
//!
//! [`BatchCopy`] is the reusable storage. Its [`scope`](BatchCopy::scope) passes a [`Batch`], to
//! which copies are added, and submits them at its end. A [`Group`] adds copies and row gathers
//! together or not at all, and merges adjacent copies. [`BatchStats`] counts submissions and
//! copies.

mod blocks;
mod group;
mod scatter;
mod storage;
mod tensor;

use core::{fmt, marker::PhantomData};

use tidelock_driver::{RowGathers, StridedCopies};

pub use self::group::Group;
use self::storage::{Run, Savepoint, Storage};
use crate::{
    Element,
    buffer::{Dst, View},
    error::{Error, Result},
    location::AnyThread,
    stream::Ctx,
    stream::{BatchSource, DeviceLocation, Invariant, KernelAccessible},
};

/// Reusable storage for batches of copies. It has no lifetime parameter and holds no borrow between
/// scopes, so that it is `Send` and can be used with any stream.
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

/// Counters of a [`BatchCopy`] since it was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchStats {
    /// Copies that were requested in scopes that succeeded.
    pub asked: u64,
    /// Copies that were submitted, after merging.
    pub submitted: u64,
    /// Submissions: scopes that had anything to copy.
    pub submissions: u64,
    /// Bytes submitted.
    pub bytes: u64,
}

/// The copies of one scope. They are unordered, so that every destination is borrowed exclusively.
///
/// A destination is memory of the device or staged memory, which the device writes in stream order.
/// A result in plain host memory takes one more step: the batch writes it to staged memory that the
/// program keeps, and the host copies it from there after it has waited.
///
/// ```
/// use tidelock::{BatchCopy, Buffer, Result, location::Pinned, sim::{self, SimBackend}};
///
/// let mut output = vec![0; 3];
/// sim::Device::default().stream(|mut stream, _env| {
///     let ctx = stream.ctx().with_pool();
///     let (ids, lens) = (ctx.upload_new(&[7, 8])?, ctx.upload_new(&[2])?);
///     // Kept, and used again in each iteration.
///     let mut landing = Buffer::<i32, Pinned<SimBackend>>::zeros(3)?.stage(&ctx);
///     BatchCopy::new().scope(&ctx, |batch| -> Result<()> {
///         let (to_ids, to_lens) = landing.view_mut().split_at(2)?;
///         batch.copy(ids.view(), to_ids)?;
///         batch.copy(lens.view(), to_lens)
///     })?;
///     drop((ids, lens)); // freed in stream order, after the copies
///     output.copy_from_slice(landing.peek(&stream.synchronize()?));
///     Ok::<(), tidelock::Error>(())
/// })??;
/// assert_eq!(output, [7, 8, 2]);
/// # Ok::<(), tidelock::Error>(())
/// ```
///
/// The operands outlive `'env`, which is invariant, so that no operand can end before the
/// submission: [how to read the messages](crate::lifetime_errors#an-operand-ends-before-its-batch).
pub struct Batch<'b, 'env, L: DeviceLocation> {
    storage: &'b mut Storage,
    brand: PhantomData<(Invariant<'env>, L)>,
}

impl BatchCopy {
    /// Empty storage. It grows to the size of the largest scope, and keeps this size.
    #[inline]
    #[must_use]
    pub fn new() -> Self {
        BatchCopy { storage: Storage::default() }
    }

    /// Collects the copies that `f` adds, and submits them together when `f` returns. Nothing is
    /// submitted if `f` returns `Err` or panics.
    ///
    /// `f` returns the library's [`Result`], so that it may end in `Ok(())`. What fails with an error
    /// of the program is called before the scope.
    ///
    /// The copies of a scope are unordered. They run after all work enqueued before the end of the
    /// scope. Sources in plain host memory are read before this returns, all others in stream
    /// order.
    ///
    /// Cost: one submission, for any number and directions of copies; none if there are no copies.
    /// On CUDA, a submission is one to a few driver calls.
    ///
    /// # Errors
    /// The error of `f`: nothing is submitted then.
    ///
    /// Or the error of the driver. If the batch is one driver call, no copy is made. If it takes
    /// several (tens of thousands of copies, a driver that takes copies in chunks or one by one,
    /// much plain host memory beside other sources), those before the failed one are made, so that
    /// each destination either is unchanged or has been written as a whole. Host memory is not read
    /// after the return, the stream stays usable, and the batch may be submitted again.
    ///
    /// # Aborts
    /// On CUDA, if the copies are made one by one (`cuda::Batching::Loop`, or a driver or device
    /// without batches), a copy out of plain host memory is enqueued, and waiting for the stream
    /// fails twice. The memory may be page-locked, and the device would read it after this has
    /// returned (rule R12).
    #[inline]
    pub fn scope<'env, L: DeviceLocation, A, R>(
        &mut self,
        ctx: &Ctx<'_, L, A>,
        f: impl for<'b> FnOnce(&'b mut Batch<'_, 'env, L>) -> Result<R>,
    ) -> Result<R> {
        // A scope that panicked has left its copies in the storage.
        self.storage.clear();
        let answer = f(&mut Batch { storage: &mut self.storage, brand: PhantomData });
        let answer = match answer {
            Ok(value) => self.submit(ctx).map(|()| value),
            Err(error) => Err(error),
        };
        self.storage.clear();
        answer
    }

    /// The counters so far.
    #[inline]
    #[must_use]
    pub fn stats(&self) -> BatchStats {
        self.storage.stats()
    }

    fn submit<L: DeviceLocation, A>(&mut self, ctx: &Ctx<'_, L, A>) -> Result<()> {
        let (copies, gathers, strided) = self.storage.copies()?;
        // SAFETY:
        // - O8: row numbers on the host come from checked permutations and scatters, borrowed for
        //   `'env`, which outlives the call of `scope`: they have not changed. `warp` has compared
        //   their number with the rows, and a scatter has as many sources as destinations.
        let gathers = unsafe { RowGathers::new(gathers) };
        // SAFETY:
        // - O12: block numbers come from checked scatters, borrowed for `'env`, as above.
        let strided = unsafe { StridedCopies::new(strided) };
        // SAFETY:
        // - C1, C4: every operand was a view that outlives `'env`, which outlives the call of
        //   `scope`: sources and destinations still exist, and are kept in stream order, as for a
        //   plain copy.
        // - C3: destinations were exclusively borrowed for `'env`, so that none overlaps another or
        //   a source. Of the rows of a scatter, no two destinations are one row, and inside one
        //   buffer none is a source (O10): `Scatter::set` has checked both.
        // - C2: merged copies lie in one allocation, because no two allocations are adjacent (M4,
        //   rule R10).
        // - C2, C4: the storage leaves out copies of no bytes, and puts sources in plain host
        //   memory last, from `host_from` on.
        // - O7, O10: row numbers are below the bounds that `warp` and `scatter` compared with the
        //   rows. They were checked, or the caller of `RowNumbers::unchecked` promised it.
        // - O11: the pitch of `Rows` and `RowsMut` is never below their width.
        // - O12: each run of a strided copy is elements of a tensor at both sides, of which no two
        //   of the destination overlap: its layout is injective, and no two targets of a scatter are
        //   equal. `copy_blocks` compared the bounds of the scatter with the blocks, and inside one
        //   tensor no block is source and destination.
        unsafe { ctx.handle().batch(copies.with_gathers(gathers).with_strided(strided)) }?;
        for receipt in self.storage.receipts() {
            // SAFETY:
            // - The counter belongs to an output that outlives `'env`, which outlives the call of
            //   `scope`.
            unsafe { receipt.settle() };
        }
        self.storage.submitted();
        Ok(())
    }
}

impl<'env, L: DeviceLocation> Batch<'_, 'env, L> {
    /// Adds one copy.
    ///
    /// # Errors
    /// [`Error::Length`] if the lengths differ, [`Error::OutOfMemory`] if the storage cannot grow.
    /// Nothing is added then.
    #[inline]
    pub fn copy<T: Element, S: BatchSource<L>, D: KernelAccessible<L>>(
        &mut self,
        src: View<'env, T, S>,
        dst: impl Dst<'env, T, D>,
    ) -> Result<()> {
        let counter = dst.counter();
        let (dst, len) = dst.into_parts();
        if len != src.len() {
            return Err(Error::Length { operand: "dst", expected: src.len(), found: len });
        }
        let run = Run { dst: dst.as_ptr().cast(), src: src.as_ptr().cast(), bytes: src.byte_len() };
        match counter {
            None => self.add(run, S::DURING_CALL),
            Some(counter) => {
                self.storage.reserve_receipt()?;
                self.add(run, S::DURING_CALL)?;
                self.storage.push_receipt(counter, len);
                Ok(())
            }
        }
    }

    /// Adds a group of copies, of which consecutive ones are merged. If `f` fails or panics, none
    /// of them is added.
    ///
    /// # Errors
    /// The error of `f`, or [`Error::OutOfMemory`] if the storage cannot grow.
    #[inline]
    pub fn group<R>(&mut self, f: impl for<'g> FnOnce(&mut Group<'g, 'env, L>) -> Result<R>) -> Result<R> {
        let mut tentative = Tentative { savepoint: self.storage.savepoint(), storage: self.storage, keep: false };
        let mut group = Group::new(tentative.storage);
        let answer = f(&mut group);
        let answer = answer.and_then(|value| group.finish().map(|()| value));
        tentative.keep = answer.is_ok();
        answer
    }
}

impl<L: DeviceLocation> Batch<'_, '_, L> {
    #[inline]
    fn add(&mut self, run: Run, during_call: bool) -> Result<()> {
        if run.bytes == 0 {
            self.storage.count(1);
            Ok(())
        } else if during_call {
            self.storage.push_during_call(run)
        } else {
            self.storage.push(run)
        }
    }
}

/// Rolls a storage back to `savepoint` when it is dropped, unless `keep` is set.
struct Tentative<'b> {
    storage: &'b mut Storage,
    savepoint: Savepoint,
    keep: bool,
}

impl Drop for Tentative<'_> {
    fn drop(&mut self) {
        if !self.keep {
            self.storage.roll_back(self.savepoint);
        }
    }
}

// SAFETY:
// - `scope` borrows the storage exclusively. Outside of it, the addresses in the storage, also of
//   counters, are not read, and dropping them does nothing.
// - `scope` clears the storage at its start and at its end (rule R5). After a panic in a scope, the
//   next one clears it before its closure runs. The closure only borrows the `Batch`, so that it
//   cannot forget or keep it.
unsafe impl Send for BatchCopy {}
// SAFETY:
// - A shared reference gives access to the counters only.
unsafe impl Sync for BatchCopy {}
// SAFETY:
// - No device location is `AnyThread`, so that no batch is `Send`. Written out so that rustc prints
//   the reason.
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
