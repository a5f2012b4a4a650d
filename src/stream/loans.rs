//! Host memory of the program that a stream may be using, and the wait that ends it.

use core::{num::NonZero, ptr::NonNull};

use tidelock_driver::{AllocError, Backend, Code, RawStream};

use super::StreamState;
use crate::{
    error::Result,
    location::{Host, Location},
};

impl<B: Backend> StreamState<B> {
    /// Notes that borrowed host memory is on loan to the stream until the scope ends.
    pub(crate) fn lend(&self) {
        self.loans.set(self.loans.get() || self.takes_loans());
    }

    /// Notes that borrowed host memory is on loan to the stream until the stream ends, whatever
    /// scope it was lent in.
    pub(crate) fn lend_for_life(&self) {
        self.lasting_loans.set(self.lasting_loans.get() || self.takes_loans());
    }

    /// Page-locks `bytes` bytes of borrowed host memory until the scope ends, and notes that it is
    /// on loan.
    ///
    /// # Errors
    /// What the driver answered; nothing has changed then.
    ///
    /// # Safety
    /// - The memory stays until the frame that closes the scope has settled, for writes too unless
    ///   `read_only`.
    pub(crate) unsafe fn register(&self, ptr: NonNull<u8>, bytes: usize, read_only: bool) -> Result<()> {
        self.check()?;
        let Some(bytes) = NonZero::new(bytes) else { return Ok(()) };
        let mut registered = self.registered.borrow_mut();
        if registered.try_reserve(1).is_err() {
            return Err(AllocError::OutOfMemory.explained(Host::NAME, size_of::<NonNull<u8>>(), || None));
        }
        // SAFETY:
        // - The caller promises the memory until the end of the scope, which unregisters it.
        let answer = unsafe { self.raw.register(ptr.as_ptr(), bytes, read_only) };
        self.note(answer)?;
        registered.push(ptr);
        drop(registered);
        self.lend();
        Ok(())
    }

    /// Ends all registrations, each tried twice. What the driver refuses to unlock stays locked,
    /// and is the program's.
    fn unregister(&self) -> Result<()> {
        let mut answer = Ok(());
        while let Some(ptr) = self.registered.borrow_mut().pop() {
            let end = || {
                // SAFETY:
                // - The memory was on loan, and the stream has just been waited for: no work uses
                //   it.
                let ended = unsafe { self.raw.unregister(ptr.as_ptr()) };
                self.note(ended)
            };
            // What was unlocked although the answer was an error is found so.
            let again = |_| {
                end().or_else(|error| match error.code {
                    Code::HOST_MEMORY_NOT_REGISTERED => Ok(()),
                    _ => Err(error),
                })
            };
            answer = answer.and(end().or_else(again));
        }
        Ok(answer?)
    }

    /// Whether a loan can come into use: a poisoned stream refuses every operation.
    fn takes_loans(&self) -> bool {
        self.poison.get().is_none()
    }

    /// Waits until the device has finished with borrowed host memory: that of a scope, or at the
    /// end of the stream, all.
    ///
    /// If it cannot be waited for while memory is on loan, the process is aborted: the memory's
    /// owner is about to use it again, and there is no other way to keep the device from writing
    /// into it (rule R12).
    pub(crate) fn settle(&self, is_stream: bool) -> Result<()> {
        let on_loan = self.loans.get() || (is_stream && self.lasting_loans.get());
        let mut answer = self.synchronize();
        // What would abort the process, or leak all that the stream may be using, is tried twice.
        if answer.is_err() && (on_loan || is_stream) && self.poison.get().is_none() {
            answer = self.synchronize();
        }
        if answer.is_err() && on_loan {
            std::process::abort();
        }
        self.loans.set(false);
        // SAFETY:
        // - The stream was waited for above, or nothing is on loan.
        unsafe { self.raw.loans_end() };
        // Without a wait there are none: they are on loan.
        answer.and_then(|()| self.unregister())
    }
}
