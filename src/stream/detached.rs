//! Device memory that belongs to no stream: detached, to change threads, or frozen, to be read by
//! many streams.

use core::{alloc::Layout, fmt, marker::PhantomData, ptr::NonNull};
use std::sync::Arc;

use tidelock_driver::{AllocError, Backend, RawDevice};

use super::{
    Env,
    location::{DeviceLocation, OnBackend},
    records::SharedRecord,
};
use crate::{
    Element,
    alloc::Allocator,
    buffer::{Buffer, View},
    error::Result,
    location::{AnyThread, Location, sealed::Sealed},
};

/// The location of device memory that belongs to no stream.
///
/// A `Buffer<T, Detached<B>>` is `Send`. It has a record behind its last use, and keeps its device
/// alive, so that it may outlive streams and [`Device`](crate::Device) values. Its address and its
/// length can be read; its elements are used once a stream [attaches](crate::Ctx::attach) it.
///
/// Dropping such a buffer never waits: a stream of the device's own waits for the record, on the
/// device, and frees the memory there. If that is refused, the memory is leaked, and counted
/// ([`Device::leaked_bytes`](crate::Device::leaked_bytes)). On a CUDA device without memory pools,
/// which frees nothing in stream order, the drop waits.
pub struct Detached<B>(PhantomData<fn() -> B>);

/// The allocator of detached memory: the record behind the last use. It allocates nothing.
pub struct DetachedAlloc<B: Backend> {
    record: Arc<SharedRecord<B>>,
}

impl<B: Backend> DetachedAlloc<B> {
    pub(super) fn new(record: Arc<SharedRecord<B>>) -> Self {
        DetachedAlloc { record }
    }

    pub(super) fn record(&self) -> &SharedRecord<B> {
        &self.record
    }
}

impl<B: Backend> Location for Detached<B> {
    type DefaultAlloc = DetachedAlloc<B>;
    const NAME: &'static str = "detached";
    const IS_DEVICE: bool = true;
}
impl<B: Backend> AnyThread for Detached<B> {}
impl<B: Backend> Sealed for Detached<B> {}

// SAFETY:
// - It never allocates. A buffer in `Detached` has memory of a stream-ordered allocator of the
//   record's device: `Crosses::leave` alone makes such buffers.
unsafe impl<B: Backend> Allocator<Detached<B>> for DetachedAlloc<B> {
    #[inline]
    fn alloc(&self, _: Layout) -> Result<NonNull<u8>, AllocError> {
        Err(AllocError::OutOfMemory)
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: NonNull<u8>, layout: Layout) {
        let (device, event) = (self.record.device(), self.record.at().event());
        // SAFETY:
        // - The memory comes from `alloc` of a stream of the device (`CrossAlloc`). The caller
        //   frees it once, and enqueues no work on it any more.
        // - All work on it lies before the record (D6). The record has this owner, so that its event
        //   is alive and is not recorded again during the call.
        if device.shared().leaks_shared() || unsafe { device.free_behind(&[event], ptr) }.is_err() {
            // An error is ignored in drop: the memory is leaked (F2).
            device.shared().count_leak(layout.size());
        }
    }
}

/// Read-only device memory of backend `B`, for any number of streams and threads.
///
/// It is `Sync`. A stream reads it through [`Env::frozen`]; the memory must outlive the stream.
pub struct Frozen<T, B: Backend> {
    memory: Buffer<T, Detached<B>>,
}

impl<'s, L: DeviceLocation> Env<'s, '_, L> {
    /// A view of frozen memory that this stream may read for the rest of its life. Cost: one driver
    /// call; the host does not wait.
    ///
    /// # Errors
    /// [`Error::OtherDevice`](crate::Error::OtherDevice), or the driver's error.
    #[inline]
    pub fn frozen<T: Element>(&self, memory: &'s Frozen<T, <L as OnBackend>::Backend>) -> Result<View<'s, T, L>> {
        let view = memory.memory.view();
        self.handle().follow(memory.memory.allocator().record(), "memory")?;
        let ptr = NonNull::new(view.as_ptr().cast_mut()).unwrap_or(NonNull::dangling());
        // SAFETY:
        // - The elements were all written before the event, and nothing writes them any more. What
        //   the stream enqueues from now on runs behind the event (E3).
        // - The memory outlives the stream's frame. That frame waits for the stream; if it cannot,
        //   memory that streams share is leaked from then on (D7).
        Ok(unsafe { View::from_raw_parts(ptr, view.len()) })
    }
}

impl<T, B: Backend> Buffer<T, Detached<B>> {
    /// Makes the memory read-only for all streams. Cost: none. Each stream that reads it waits, on
    /// the device, for what was enqueued before it was detached.
    #[inline]
    #[must_use]
    pub fn freeze(self) -> Frozen<T, B> {
        Frozen { memory: self }
    }
}

impl<T, B: Backend> Frozen<T, B> {
    /// How many elements there are.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.memory.len()
    }

    /// Whether there are none.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.memory.is_empty()
    }
}

impl<B> fmt::Debug for Detached<B> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Detached")
    }
}
impl<B: Backend> fmt::Debug for DetachedAlloc<B> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DetachedAlloc").finish_non_exhaustive()
    }
}
impl<T, B: Backend> fmt::Debug for Frozen<T, B> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frozen").field("len", &self.len()).finish_non_exhaustive()
    }
}
