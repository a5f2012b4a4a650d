//! Out of memory: what the library or the driver's pool still holds is given back before a request
//! is refused.

#![forbid(unsafe_code)]

use core::{alloc::Layout, ptr::NonNull};

use tidelock_driver::{AllocError, Backend, Code, DriverError, RawDevice, RawStream};

use super::StreamState;
use crate::{
    error::{Error, Result, Shortage},
    location::{Location, Pinned},
};

impl<B: Backend> StreamState<B> {
    /// Makes a request for device memory `again` that was refused with `error`.
    ///
    /// If there is no memory, then in this order, up to the first answer: deferred frees are
    /// carried out if the stream is idle, the pool gives back what it caches, and the request is
    /// made again; the pools of the device's other streams do, and it is made again; if that fails
    /// and the stream's options allow it, the stream is waited for, and the same is done once more.
    ///
    /// # Errors
    /// What the driver answered to the last request.
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
        self.climb(|is_idle| {
            if is_idle {
                // Returns at once. The driver's pools may not give back what no wait has seen freed
                // ("Allocations that have been asynchronously freed but whose completion has not
                // been completed on the host (eg. by a synchronize) can count as outstanding", CUDA
                // driver manual 13.0, cuMemPoolTrimTo).
                let _ = self.synchronize();
            }
            // If this is refused, the request says whether it mattered.
            let _ = self.trim(0);
            self.usable()?;
            let mut answer = again();
            if answer.is_err_and(|error| error.code == Code::OUT_OF_MEMORY) && self.raw.trim_others() {
                answer = again();
            }
            Ok(self.note(answer)?)
        })
    }

    /// Takes a piece of the pinned pool. Before more is locked, deferred frees are carried out if
    /// the stream is idle.
    ///
    /// # Errors
    /// As for `PinnedPool::alloc`. If the system locks no more, and the stream's options allow it,
    /// the stream was waited for.
    pub(crate) fn pinned(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        match B::PINNED.alloc_locked(layout) {
            Some(piece) => Ok(piece),
            None if self.waiting().pinned == 0 => B::PINNED.alloc(layout),
            None => self.climb(|_| B::PINNED.alloc(layout)),
        }
    }

    /// The ladder: carries out deferred frees if the stream is idle, and makes `attempt`; if there
    /// is no memory, and the stream's options allow it, waits for the stream, and makes it once
    /// more. `attempt` gets whether the stream is idle without having been waited for.
    #[cold]
    fn climb(&self, attempt: impl Fn(bool) -> Result<NonNull<u8>, AllocError>) -> Result<NonNull<u8>, AllocError> {
        // A stream that does not say counts as busy.
        let is_idle = matches!(self.is_idle(), Ok(true));
        let answer = attempt(is_idle);
        if answer == Err(AllocError::OutOfMemory) && !is_idle && self.waits_for_memory {
            if self.synchronize().is_ok() {
                return attempt(false);
            }
            // A device that the wait found lost says more than that there is no memory.
            self.usable()?;
        }
        answer
    }

    /// What is known of the device's memory, for the error of a request that was refused.
    #[cold]
    pub(crate) fn shortage(&self) -> Option<Shortage> {
        let (free, total) = self.with_raw(|raw| raw.device().memory_info()).unwrap_or_default();
        let cached = self.with_raw(RawStream::cached).unwrap_or_default();
        Some(Shortage::new(self.ordinal(), (free, total), cached, self.waiting().device))
    }

    /// As [`shortage`](StreamState::shortage), of pinned memory: the system does not say how much
    /// there is.
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
