//! Streams: the unique capability to wait, the shared capability to enqueue, and memory on its way
//! between host and device.

mod alloc;
mod context_alloc;
mod ctx;
mod deferred_free;
mod detached;
mod events;
mod frame;
pub(crate) mod in_location;
mod launch;
mod lend;
mod loans;
mod location;
mod options;
mod reclaim;
mod ring;
mod scope;
mod staged;
mod state;

use core::{fmt, marker::PhantomData};

pub use self::{
    alloc::{NoDeviceAlloc, StagedAlloc, StreamAlloc, SyncAlloc},
    context_alloc::{AllocOf, HasAlloc},
    ctx::Ctx,
    detached::{Detached, Frozen},
    launch::{Arg, Args},
    location::{BatchSource, DeviceLocation, KernelAccessible, Lent, On, OnBackend, OnStream, Staged},
    options::StreamOptions,
    scope::{Env, HostScope},
    staged::{Fenceable, Pending, Stageable},
};
pub(crate) use self::{deferred_free::DeferredFree, frame::enter, location::Invariant, state::StreamState};
use crate::{error::Result, location::AnyThread};

/// The unique, exclusive capability on one stream: whoever has it may wait for the stream.
///
/// It is not `Clone` and not `Send`, and there is one for each brand, so that
/// [`synchronize`](Stream::synchronize), which takes `&mut self`, proves that nobody enqueues work
/// meanwhile. It does not dereference to [`Ctx`]; ask for one.
pub struct Stream<L: DeviceLocation> {
    handle: L::Handle,
    /// Neither `Send` nor `Sync`, and invariant in the brand.
    brand: PhantomData<(L, *const ())>,
}

/// The proof that everything enqueued on stream `L` has finished, and that no copy, fill, batch or
/// kernel is enqueued while this lives.
///
/// Zero-sized. It borrows the [`Stream`] exclusively, so that no [`Ctx`] can exist beside it, and
/// all work is enqueued through one. What needs none can still reach the stream: dropping device
/// memory frees it in stream order, a kept handle of the pool allocates, and [`Env::frozen`] waits
/// for an event. They touch memory that nobody has, or none.
pub struct Synced<'c, L> {
    borrow: PhantomData<(&'c mut (), L, *const ())>,
}

impl<L: DeviceLocation> Stream<L> {
    pub(crate) fn new(handle: L::Handle) -> Self {
        Stream { handle, brand: PhantomData }
    }

    /// The shared capability to enqueue and to allocate, with no device allocator yet. Cost: one
    /// move.
    #[inline]
    #[must_use]
    pub fn ctx(&self) -> Ctx<'_, L> {
        Ctx::new(self.handle)
    }

    /// Waits until everything enqueued so far has finished.
    ///
    /// Cost: one driver call, which holds the calling thread. Deferred frees are carried out.
    ///
    /// # Errors
    /// What the driver answered, or what went wrong with earlier work. Memory that the device may
    /// still be touching is then leaked when it is given up, never freed.
    #[inline]
    pub fn synchronize(&mut self) -> Result<Synced<'_, L>> {
        self.handle.synchronize()?;
        Ok(Synced { borrow: PhantomData })
    }

    /// Whether everything enqueued so far has finished. Deferred frees are carried out if so. Cost:
    /// one driver call.
    ///
    /// # Errors
    /// What the driver answered, or what went wrong with earlier work.
    #[inline]
    pub fn is_idle(&self) -> Result<bool> {
        self.handle.is_idle()
    }

    /// Waits like [`synchronize`](Stream::synchronize), then gives cached memory of the stream's
    /// pool back to the device until at most `bytes_to_keep` bytes are reserved.
    ///
    /// The pool gives back only what it has seen freed, which is why this waits first.
    ///
    /// # Errors
    /// What the driver answered.
    #[inline]
    pub fn trim(&mut self, bytes_to_keep: usize) -> Result<Synced<'_, L>> {
        self.handle.synchronize()?;
        self.handle.trim(bytes_to_keep)?;
        Ok(Synced { borrow: PhantomData })
    }

    /// Bytes that were leaked because the device might still have been touching them.
    #[inline]
    #[must_use]
    pub fn leaked_bytes(&self) -> usize {
        self.handle.leaked_bytes()
    }
}

// SAFETY:
// - No device location is `AnyThread`: there are no such streams. Written out so that the compiler
//   gives its reason.
unsafe impl<L: DeviceLocation + AnyThread> Send for Stream<L> {}
// SAFETY:
// - As above.
unsafe impl<L: DeviceLocation + AnyThread> Sync for Stream<L> {}
// SAFETY:
// - As above.
unsafe impl<L: DeviceLocation + AnyThread> Send for Synced<'_, L> {}
// SAFETY:
// - As above.
unsafe impl<L: DeviceLocation + AnyThread> Sync for Synced<'_, L> {}

impl<L: DeviceLocation> fmt::Debug for Stream<L> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("location", &L::NAME).finish_non_exhaustive()
    }
}

impl<L> fmt::Debug for Synced<'_, L> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Synced")
    }
}
