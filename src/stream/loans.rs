//! Loans: host memory of the program that a stream may be using, and the wait that ends the loans.

use core::{num::NonZero, ptr::NonNull};

use tidelock_driver::{AllocError, Backend, Code, RawStream};

use super::{StreamState, registered::Registered};
use crate::{
    error::Result,
    location::{Host, Location},
};

/// What a frame is around. It says which loans end with it, and whether it always waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// A host scope. It always waits.
    Scope,
    /// A visit of a lane. It waits if something is on loan to the stream.
    Visit,
    /// The rest of the life of a stream. It always waits.
    Stream,
}

impl<B: Backend> StreamState<B> {
    /// Records that borrowed host memory is on loan to the stream until the scope ends.
    pub(crate) fn lend(&self) {
        self.loans.set(self.loans.get() || self.takes_loans());
    }

    /// Records that borrowed host memory is on loan to the stream until the stream ends, or
    /// until the visit ends, also if it was lent in a scope.
    pub(crate) fn lend_for_life(&self) {
        self.lasting_loans.set(self.lasting_loans.get() || self.takes_loans());
    }

    /// Page-locks `bytes` bytes of borrowed host memory until the scope ends, and records that it
    /// is on loan.
    ///
    /// # Errors
    /// The driver's error. Nothing has changed then.
    ///
    /// # Safety
    /// - The memory stays mapped until the frame that closes the scope has returned from `settle`,
    ///   writable unless `read_only` (P6).
    pub(crate) unsafe fn register(&self, ptr: NonNull<u8>, bytes: usize, read_only: bool) -> Result<()> {
        self.check()?;
        let Some(bytes) = NonZero::new(bytes) else { return Ok(()) };
        let mut registered = self.registered.borrow_mut();
        if registered.try_reserve(1).is_err() {
            return Err(AllocError::OutOfMemory.explained(Host::NAME, size_of::<Registered>(), || None));
        }
        // SAFETY:
        // - P6: the caller promises that the memory stays mapped until the end of the scope, which
        //   unregisters it. The type of lent memory admits plain copies only.
        let answer = unsafe { self.raw.register(ptr.as_ptr(), bytes, read_only) };
        self.note(answer)?;
        registered.push(Registered(ptr));
        drop(registered);
        self.lend();
        Ok(())
    }

    /// Ends all registrations, each tried twice. Memory that the driver refuses to unlock stays
    /// locked, and belongs to the program (P7).
    fn unregister(&self) -> Result<()> {
        let mut answer = Ok(());
        while let Some(Registered(ptr)) = self.registered.borrow_mut().pop() {
            let end = || {
                // SAFETY:
                // - P7: the memory was on loan, and the stream has just been waited for (H1), so
                //   that no work uses it.
                let ended = unsafe { self.raw.unregister(ptr.as_ptr()) };
                self.note(ended)
            };
            // The first call may have unlocked the memory although it failed (P7).
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

    /// Whether work can use a loan. A poisoned stream refuses every operation.
    fn takes_loans(&self) -> bool {
        self.poison.get().is_none()
    }

    /// Waits until the device has finished with what is on loan to the stream: the host memory of a
    /// scope, or all of it at the end of a visit or of the stream. A visit with nothing on loan does
    /// not wait.
    ///
    /// # Aborts
    /// If the stream cannot be waited for while host memory is on loan: the owner of the memory is
    /// about to use it again, and the device may still write into it (rule R12, H3).
    pub(super) fn settle(&self, extent: Extent) -> Result<()> {
        let lasts = extent != Extent::Scope;
        let on_loan = self.loans.get() || (lasts && self.lasting_loans.get());
        if extent == Extent::Visit && !on_loan {
            return Ok(());
        }
        let mut answer = self.synchronize();
        // Tried twice, because a failure aborts the process, or leaks all that the stream may be
        // using.
        if answer.is_err() && (on_loan || lasts) && self.poison.get().is_none() {
            answer = self.synchronize();
        }
        if answer.is_err() && on_loan {
            std::process::abort();
        }
        self.loans.set(false);
        if lasts {
            self.lasting_loans.set(false);
        }
        // SAFETY:
        // - P4: the stream was waited for above, or nothing is on loan.
        unsafe { self.raw.loans_end() };
        // After a failed wait there are no registrations: they are on loan, and the process was
        // aborted.
        answer.and_then(|()| self.unregister())
    }
}
