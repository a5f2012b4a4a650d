//! Streams: the unique capability to wait ([`Stream`]), the shared capability to enqueue and
//! allocate ([`Ctx`]), and what belongs to one stream.
//!
//! This module holds the location of a stream's device memory ([`On`], [`DeviceLocation`]), its
//! allocators ([`StreamAlloc`], [`SyncAlloc`]), pinned memory on its way to and from the device
//! ([`Staged`], [`Pending`], [`Arriving`]), host memory that is lent to a stream ([`HostScope`],
//! [`Env`], [`Lent`]), device memory that changes streams or threads ([`Detached`], [`Shared`]), streams that
//! live in objects and change threads ([`Lane`]), the arguments of kernels ([`Arg`], [`Args`]) and
//! tables of addresses for them ([`Table`]), what a stream initialises ([`Fresh`]), what a context
//! allocates from ([`HasAlloc`], [`WithHost`], [`WithPinned`]), points of a stream and the time
//! between them ([`Mark`], [`Elapsed`]) and the options of a stream ([`StreamOptions`]).

mod alloc;
mod arriving;
mod context_alloc;
mod crossing;
mod ctx;
mod deferred_free;
mod detached;
mod events;
mod foreign;
mod frame;
pub(crate) mod in_location;
mod init;
mod kept_owner;
mod lane;
mod launch;
mod lend;
mod lent_tensor;
mod loans;
mod location;
mod options;
mod read;
mod reclaim;
mod record;
mod records;
mod registered;
mod ring;
mod scope;
mod shared;
mod shared_memory;
mod shared_places;
mod shared_tensor;
mod staged;
mod state;
mod table;
mod tensor;
mod timing;
mod watcher;
mod words;

use core::{fmt, marker::PhantomData};

pub use self::{
    alloc::{NoDeviceAlloc, StagedAlloc, StreamAlloc, SyncAlloc},
    arriving::{Arriving, ArrivingAlloc},
    context_alloc::{AllocHandle, AllocOf, Allocators, HasAlloc, WithHost, WithPinned},
    crossing::{AttachAlloc, Attaches, CrossAlloc, Crosses, Transferred},
    ctx::Ctx,
    detached::{Detached, DetachedAlloc},
    init::Fresh,
    lane::Lane,
    launch::{Arg, Args},
    location::{BatchSource, DeviceLocation, KernelAccessible, Lent, On, OnBackend, OnStream, Staged},
    options::StreamOptions,
    scope::{Env, HostScope},
    shared::{ShareAlloc, Shared, SharedPlace},
    shared_memory::{SharedMemory, Source},
    shared_tensor::SharedTensor,
    staged::{Pending, Stageable},
    table::{Entry, EntryMut, Table, TableView, TableViewMut},
    timing::{Elapsed, Mark},
};
pub(crate) use self::{
    arriving::deferred_bytes, deferred_free::DeferredFree, frame::with_stream, lane::outside_of_kernels,
    location::Invariant, state::StreamState,
};
use crate::{error::Result, location::AnyThread};

/// The unique capability on one stream: its owner may wait for the stream.
///
/// It is neither `Clone` nor `Send`, and there is one for each brand. So
/// [`synchronize`](Stream::synchronize), which takes `&mut self`, proves that no work is enqueued
/// meanwhile. It does not dereference to a [`Ctx`]: call [`ctx`](Stream::ctx).
///
/// What belongs to a stream cannot leave its closure, or be used on another stream:
/// [how to read the messages](crate::lifetime_errors).
pub struct Stream<L: DeviceLocation> {
    handle: L::Handle,
    /// Neither `Send` nor `Sync`, and invariant in the brand.
    brand: PhantomData<(L, *const ())>,
}

/// The proof that everything enqueued on stream `L` has finished, and that no copy, fill, batch or
/// kernel is enqueued while this lives.
///
/// Zero-sized. It borrows the [`Stream`] exclusively, so that no [`Ctx`] exists beside it, and work
/// is enqueued through a context only. What is read by means of it
/// ([`Buffer::peek`](crate::Buffer::peek)) extends that borrow. Some operations on the stream need
/// no context: dropping device memory frees it in stream order, and a copy of the pool's handle
/// allocates. They touch no memory that a buffer owns.
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
    /// Cost: one driver call, which blocks the calling thread. Deferred frees are carried out.
    ///
    /// # Errors
    /// The driver's error, or the failure of earlier work. If the stream is poisoned, memory that
    /// is dropped from then on is leaked, because the device may still be using it.
    #[inline]
    pub fn synchronize(&mut self) -> Result<Synced<'_, L>> {
        self.handle.synchronize()?;
        Ok(Synced { borrow: PhantomData })
    }

    /// Whether everything enqueued so far has finished. Deferred frees are carried out if so. Cost:
    /// one driver call.
    ///
    /// # Errors
    /// The driver's error, or the failure of earlier work.
    #[inline]
    pub fn is_idle(&self) -> Result<bool> {
        self.handle.is_idle()
    }

    /// Waits like [`synchronize`](Stream::synchronize), then gives cached memory of the stream's
    /// pool back to the device until at most `bytes_to_keep` bytes are reserved.
    ///
    /// It waits first, because the pool gives back only memory whose free the stream has passed.
    ///
    /// # Errors
    /// The driver's error.
    #[inline]
    pub fn trim(&mut self, bytes_to_keep: usize) -> Result<Synced<'_, L>> {
        self.handle.synchronize()?;
        self.handle.trim(bytes_to_keep)?;
        Ok(Synced { borrow: PhantomData })
    }

    /// The bytes that were leaked because the device may still have been using them.
    #[inline]
    #[must_use]
    pub fn leaked_bytes(&self) -> usize {
        self.handle.leaked_bytes()
    }
}

// SAFETY:
// - No device location is `AnyThread`, so that this applies to no type. It makes the compiler give
//   its reason.
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
        write!(f, "Stream<{}>", L::NAME)?;
        f.debug_struct("").field("device", &self.handle.ordinal()).finish_non_exhaustive()
    }
}

impl<L> fmt::Debug for Synced<'_, L> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Synced")
    }
}
