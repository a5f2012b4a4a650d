//! Out of memory: before a request is refused, deferred frees are carried out and cached memory of
//! the pools is given back.

#![forbid(unsafe_code)]

use core::{alloc::Layout, ptr::NonNull};

use tidelock_driver::{AllocError, Backend, Code, DriverError, RawDevice, RawStream};

use super::{StreamState, arriving::free_arrived};
use crate::{
    error::{Error, Result, Shortage},
    location::{Location, Pinned},
};

impl<B: Backend> StreamState<B> {
    /// Repeats a request for device memory that was refused with `error`.
    ///
    /// If the device is out of memory, the steps are, until one succeeds:
    /// 1. Carry out deferred frees if the stream is idle, trim the stream's pool, and call `again`.
    /// 2. Trim the pools of the device's other streams, and call `again`.
    /// 3. If the stream was busy and its options allow it, wait for the stream, and do both once
    ///    more.
    ///
    /// # Errors
    /// The driver's error for the last request.
    #[cold]
    #[inline(never)]
    pub(super) fn reclaim(
        &self,
        error: DriverError,
        again: impl Fn() -> Result<NonNull<u8>, DriverError>,
    ) -> Result<NonNull<u8>, AllocError> {
        if error.code != Code::OUT_OF_MEMORY {
            return Ok(self.note(Err(error))?);
        }
        self.retry(|is_idle| {
            if is_idle {
                // Returns at once. `trim` gives back no memory that is allocated (M9), and a pool
                // may count freed memory as allocated until the host has synchronised with the
                // free.
                let _ = self.synchronize();
            }
            // The result is ignored: if too little was trimmed, `again` is refused.
            let _ = self.trim(0);
            self.usable()?;
            let mut answer = again();
            if answer.is_err_and(|error| error.code == Code::OUT_OF_MEMORY) && self.raw.trim_others() {
                answer = again();
            }
            Ok(self.note(answer)?)
        })
    }

    /// Takes a piece of the pinned pool. Before the pool locks more memory, deferred frees are
    /// carried out if the stream is idle, and arriving memory of the device that was dropped is freed
    /// if its stream has passed its record.
    ///
    /// # Errors
    /// As for `PinnedPool::alloc`. If the system locks no more memory and the stream's options
    /// allow it, the stream was waited for before.
    pub(crate) fn pinned(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        match B::PINNED.alloc_locked(layout) {
            Some(piece) => Ok(piece),
            None => {
                free_arrived::<B>(self.device());
                match self.waiting().pinned {
                    0 => B::PINNED.alloc(layout),
                    _ => self.retry(|_| B::PINNED.alloc(layout)),
                }
            }
        }
    }

    /// Carries out deferred frees if the stream is idle, then calls `attempt`. If that finds no
    /// memory, the stream was busy and its options allow it, waits for the stream and calls
    /// `attempt` once more. The argument of `attempt` is true if the stream was idle without a
    /// wait.
    #[cold]
    fn retry(&self, attempt: impl Fn(bool) -> Result<NonNull<u8>, AllocError>) -> Result<NonNull<u8>, AllocError> {
        // If the query fails, the stream counts as busy.
        let is_idle = matches!(self.is_idle(), Ok(true));
        let answer = attempt(is_idle);
        if answer == Err(AllocError::OutOfMemory) && !is_idle && self.waits_for_memory {
            if self.synchronize().is_ok() {
                return attempt(false);
            }
            // If the wait found the device broken, that is the better error.
            self.usable()?;
        }
        answer
    }

    /// The state of the device's memory, for the error of a refused request (M11).
    #[cold]
    pub(crate) fn shortage(&self) -> Option<Shortage> {
        let (free, total) = self.with_raw(|raw| raw.device().memory_info()).unwrap_or_default();
        let cached = self.with_raw(RawStream::cached).unwrap_or_default();
        Some(Shortage::new(self.ordinal(), (free, total), cached, self.waiting().device))
    }

    /// As [`shortage`](StreamState::shortage), for pinned memory. Free and total bytes are unknown,
    /// and 0.
    #[cold]
    pub(crate) fn pinned_shortage(&self) -> Option<Shortage> {
        let usage = B::PINNED.usage();
        let cached = usage.reserved.saturating_sub(usage.used);
        Some(Shortage::new(self.ordinal(), (0, 0), cached, self.waiting().pinned))
    }

    /// The error of a request for pinned memory that was refused.
    #[cold]
    pub(crate) fn pinned_refused(&self, error: AllocError, layout: Layout) -> Error {
        error.explained(Pinned::<B>::NAME, layout.size(), || self.pinned_shortage())
    }
}
