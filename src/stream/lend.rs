//! Memory across streams: transferred to another stream, or lent to it for a closure. Neither makes
//! the host wait.

use core::ptr;

use tidelock_driver::{Backend, EventOf};

use super::{
    Ctx, StreamAlloc, StreamState,
    location::{DeviceLocation, OnBackend},
};
use crate::{
    Element,
    buffer::{Buffer, View, ViewMut},
    error::{Error, Rejected, Result},
};

impl<L: DeviceLocation, A> Ctx<'_, L, A> {
    /// Transfers `buffer` to the stream of `to`. That stream waits, on the device, for what this
    /// stream has enqueued so far.
    ///
    /// Only memory of the default allocator can be transferred, because it is freed in the order of
    /// its new stream, and memory of an arena is not (rule R3). Cost: two driver calls, a record
    /// and a wait.
    ///
    /// # Errors
    /// [`Error::OtherDevice`], or the driver's error, with the buffer. Nothing has changed then.
    #[inline]
    pub fn transfer<T: Element, M, X>(
        &self,
        buffer: Buffer<T, L>,
        to: &Ctx<'_, M, X>,
    ) -> Result<Buffer<T, M>, Rejected<Buffer<T, L>>>
    where
        M: DeviceLocation + OnBackend<Backend = L::Backend>,
    {
        match self.handle().hand_over(&to.handle()) {
            Ok(()) => {
                let (ptr, len, _) = buffer.into_raw_parts();
                // SAFETY:
                // - The memory comes from `alloc` of a stream of the same device, and any stream of
                //   that device may free it (M5).
                // - It was owned by `buffer`, and all work on it is ordered before what `to`
                //   enqueues from now on (E3).
                Ok(unsafe { Buffer::from_raw_parts(ptr, len, StreamAlloc(to.handle())) })
            }
            Err(error) => Err(Rejected::new(error, buffer)),
        }
    }

    /// Lends memory to the stream of `to`, to be read for the duration of `f`.
    ///
    /// What `to` enqueues in `f` runs after everything this stream has enqueued up to this call.
    /// What this stream enqueues after the call runs after everything `to` has enqueued by the end
    /// of `f`, also if `f` panics. Within `f` both streams may read the memory.
    ///
    /// Cost: four driver calls, two records and two waits; the host does not wait. Each loan ends
    /// before the next one begins. For buffers that go back and forth in a pipeline, use
    /// [`transfer`](Ctx::transfer).
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
        M: DeviceLocation + OnBackend<Backend = L::Backend>,
    {
        self.handle().joined(&to.handle(), || {
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
        M: DeviceLocation + OnBackend<Backend = L::Backend>,
    {
        self.handle().joined(&to.handle(), || {
            let ptr = ptr::NonNull::new(view.as_mut_ptr()).unwrap_or(ptr::NonNull::dangling());
            // SAFETY:
            // - As in `lend`. The elements are borrowed exclusively, so that this stream does not
            //   touch them meanwhile.
            f(unsafe { ViewMut::from_raw_parts(ptr, view.len()) })
        })
    }
}

impl<B: Backend> StreamState<B> {
    /// Makes `to` wait for everything this stream has enqueued so far.
    fn hand_over(&self, to: &StreamState<B>) -> Result<()> {
        to.check()?;
        to.require_device(self.device(), "to")?;
        let record = self.record()?;
        // The wait keeps the point of this record (E2), so that the event may be recorded again at
        // once.
        let answer = to.wait_for(record.event(), self.device(), "to");
        self.recycle_record(record);
        answer
    }

    /// Runs `f` between two joins: `to` waits for this stream before, this stream waits for `to`
    /// after.
    fn joined<R>(&self, to: &StreamState<B>, f: impl FnOnce() -> R) -> Result<R> {
        if ptr::eq(self, to) {
            return Err(Error::SameStream);
        }
        // The event that ends the loan is acquired before user code runs (rule R4).
        let event = to.event()?;
        let mut join = Join { lender: self, borrower: to, event, open: false };
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
    event: EventOf<B>,
    open: bool,
}

impl<B: Backend> Join<'_, B> {
    fn close(&mut self) -> Result<()> {
        self.open = false;
        let joined = self.borrower.record_into(self.event).and_then(|_| {
            // Both streams are of one device: `hand_over` compared them.
            self.lender.wait_for(self.event, self.borrower.device(), "to")
        });
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
        self.borrower.recycle(self.event);
    }
}
