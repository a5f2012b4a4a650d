//! Memory that is lent to another stream for a closure. The host does not wait.

use core::ptr;
use std::sync::Arc;

use tidelock_driver::Backend;

use super::{
    Ctx, StreamState,
    location::{DeviceLocation, SameBackend},
    record::SharedRecord,
};
use crate::{
    Element,
    buffer::{View, ViewMut},
    error::{Error, Result},
    tensor::{TensorMut, TensorView},
};

impl<L: DeviceLocation, A> Ctx<'_, L, A> {
    /// Lends memory to the stream of `to`, to be read for the duration of `f`.
    ///
    /// What `to` enqueues in `f` runs after everything this stream has enqueued up to this call.
    /// What this stream enqueues after the call runs after everything `to` has enqueued by the end
    /// of `f`, also if `f` panics. Within `f` both streams may read the memory.
    ///
    /// Cost: four driver calls, two records and two waits; the host does not wait. Loans that begin
    /// together, or end together, without work in between share the record and the wait. For buffers
    /// that go back and forth in a pipeline, use [`transfer`](Ctx::transfer).
    ///
    /// # Errors
    /// [`Error::SameStream`], [`Error::OtherDevice`], or the driver's error; `f` has not run then.
    /// If this stream cannot be made to wait for `to` at the end, the host waits for `to`. If that
    /// fails too, both streams are poisoned.
    #[inline]
    pub fn lend<T: Element, M, X, R>(
        &self,
        view: View<'_, T, L>,
        to: &Ctx<'_, M, X>,
        f: impl for<'x> FnOnce(View<'x, T, M>) -> R,
    ) -> Result<R>
    where
        M: DeviceLocation,
        M::Backend: SameBackend<L::Backend>,
    {
        self.handle().joined(SameBackend::same_state(&to.handle()), || {
            let ptr = ptr::NonNull::new(view.as_ptr().cast_mut()).unwrap_or(ptr::NonNull::dangling());
            // SAFETY:
            // - The elements stay borrowed for the whole call, and the view cannot leave `f`.
            // - Work of `to` in `f` runs after the work of this stream so far. Later work of this
            //   stream, a free included, runs after that of `to`. `joined` orders both (E3).
            f(unsafe { View::from_raw_parts(ptr, view.len()) })
        })
    }

    /// Lends memory to the stream of `to`, to be read and written for the duration of `f`.
    /// Otherwise as [`lend`](Ctx::lend).
    ///
    /// # Errors
    /// As for [`lend`](Ctx::lend).
    #[inline]
    pub fn lend_mut<T: Element, M, X, R>(
        &self,
        mut view: ViewMut<'_, T, L>,
        to: &Ctx<'_, M, X>,
        f: impl for<'x> FnOnce(ViewMut<'x, T, M>) -> R,
    ) -> Result<R>
    where
        M: DeviceLocation,
        M::Backend: SameBackend<L::Backend>,
    {
        self.handle().joined(SameBackend::same_state(&to.handle()), || {
            let ptr = ptr::NonNull::new(view.as_mut_ptr()).unwrap_or(ptr::NonNull::dangling());
            // SAFETY:
            // - As in `lend`. The elements are borrowed exclusively, so that this stream does not
            //   touch them meanwhile.
            f(unsafe { ViewMut::from_raw_parts(ptr, view.len()) })
        })
    }

    /// Lends a tensor to the stream of `to`, to be read for the duration of `f`. Otherwise as
    /// [`lend`](Ctx::lend).
    ///
    /// # Errors
    /// As for [`lend`](Ctx::lend).
    #[inline]
    pub fn lend_tensor<T: Element, M, X, const R: usize, V>(
        &self,
        tensor: TensorView<'_, T, L, R>,
        to: &Ctx<'_, M, X>,
        f: impl for<'x> FnOnce(TensorView<'x, T, M, R>) -> V,
    ) -> Result<V>
    where
        M: DeviceLocation,
        M::Backend: SameBackend<L::Backend>,
    {
        self.handle().joined(SameBackend::same_state(&to.handle()), || {
            // SAFETY:
            // - As in `lend`, for the elements that the layout names.
            f(unsafe { TensorView::new(tensor.as_nonnull(), tensor.layout()) })
        })
    }

    /// Lends a tensor to the stream of `to`, to be read and written for the duration of `f`. What
    /// lies between its elements stays with this stream, which may use it in `f`. Otherwise as
    /// [`lend`](Ctx::lend).
    ///
    /// ```
    /// use tidelock::{Result, sim};
    ///
    /// let device = sim::Device::default();
    /// device.stream(|mut stream, _env| device.stream(|other, _env| -> Result<()> {
    ///     let (ctx, there) = (stream.ctx().with_pool(), other.ctx());
    ///     let mut x = ctx.zeros::<u32>(8)?.tensor([2, 4])?;
    ///     let (left, right) = x.view_mut().split_at(1, 2)?;
    ///     ctx.lend_tensor_mut(left, &there, |left| -> Result<()> {
    ///         there.launch((left,), |(mut left,)| left[[1, 0]] = 1)?;
    ///         ctx.launch((right,), |(mut right,)| right[[0, 1]] = 2) // at the same time
    ///     })??;
    ///     assert_eq!(stream.read(x.buffer().view())?, [0, 0, 0, 2, 1, 0, 0, 0]);
    ///     Ok(())
    /// }))???;
    /// # Ok::<(), tidelock::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`lend`](Ctx::lend).
    #[inline]
    pub fn lend_tensor_mut<T: Element, M, X, const R: usize, V>(
        &self,
        tensor: TensorMut<'_, T, L, R>,
        to: &Ctx<'_, M, X>,
        f: impl for<'x> FnOnce(TensorMut<'x, T, M, R>) -> V,
    ) -> Result<V>
    where
        M: DeviceLocation,
        M::Backend: SameBackend<L::Backend>,
    {
        self.handle().joined(SameBackend::same_state(&to.handle()), || {
            // SAFETY:
            // - As in `lend_mut`, for the elements that the layout names, each once.
            f(unsafe { TensorMut::new(tensor.as_nonnull(), tensor.layout()) })
        })
    }
}

impl<B: Backend> StreamState<B> {
    /// Makes `to` wait for everything this stream has enqueued so far, and returns the record behind
    /// it.
    pub(super) fn hand_over(&self, to: &StreamState<B>) -> Result<Arc<SharedRecord<B>>> {
        to.check()?;
        to.require_device(self.device(), "to")?;
        let record = self.shared_record()?;
        to.follow(&record, "to")?;
        Ok(record)
    }

    /// Runs `f` between two joins: `to` waits for this stream before, this stream waits for `to`
    /// after.
    fn joined<R>(&self, to: &StreamState<B>, f: impl FnOnce() -> R) -> Result<R> {
        if ptr::eq(self, to) {
            return Err(Error::SameStream);
        }
        // What the record that ends the loan needs is acquired before user code runs (rule R4).
        let unused = to.unused_record()?;
        let mut join = Join { lender: self, borrower: to, unused: Some(unused), open: false };
        self.hand_over(to)?;
        join.open = true;
        let value = f();
        join.close()?;
        Ok(value)
    }
}

/// Makes the lender wait for the borrower when the loan ends, also on panic.
struct Join<'a, B: Backend> {
    lender: &'a StreamState<B>,
    borrower: &'a StreamState<B>,
    /// For the record that ends the loan. `None` once the loan has ended.
    unused: Option<Arc<SharedRecord<B>>>,
    open: bool,
}

impl<B: Backend> Join<'_, B> {
    fn close(&mut self) -> Result<()> {
        self.open = false;
        let Some(unused) = self.unused.take() else { return Ok(()) };
        // Both streams are of one device: `hand_over` compared them.
        let joined = self.borrower.record_as(unused).and_then(|record| self.lender.follow(&record, "to"));
        if joined.is_ok() {
            return Ok(());
        }
        // The device could not order the two streams, so the host waits. If that fails too, neither
        // stream frees what they share (H3).
        self.borrower.synchronize().inspect_err(|&error| {
            self.borrower.poison(error);
            self.lender.poison(error);
        })
    }
}

impl<B: Backend> Drop for Join<'_, B> {
    fn drop(&mut self) {
        if self.open {
            // Unwinding: errors are ignored in drop. If the streams could not be ordered, `close`
            // has poisoned them.
            let _ = self.close();
        }
        if let Some(unused) = self.unused.take() {
            self.borrower.keep_record(unused);
        }
    }
}
