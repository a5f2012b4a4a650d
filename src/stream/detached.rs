//! Device memory that belongs to no stream: detached, to change threads, or frozen, to be read by
//! many streams.

use core::{fmt, ptr::NonNull};

use tidelock_driver::{Backend, DeviceOf, EventOf, RawDevice};

use super::{
    Ctx, Env, StreamAlloc,
    location::{DeviceLocation, OnBackend},
};
use crate::{
    Element,
    buffer::{Buffer, View},
    error::{Rejected, Result},
};

/// Device memory of backend `B` that belongs to no stream, with an event behind its last use.
///
/// It is `Send`. It keeps its device alive, so that it may outlive streams and
/// [`Device`](crate::sim::Device) values. Dropping it waits for the event and frees the memory;
/// pass it to [`Ctx::attach`] or [`freeze`](Detached::freeze) it instead. If it is dropped inside a
/// simulated kernel, the drop does not wait: the device frees the memory once the event has been
/// passed.
#[must_use = "dropping detached memory holds the thread until the device has finished with it"]
pub struct Detached<T, B: Backend> {
    /// Invariants:
    /// 1. `ptr` comes from the stream-ordered allocator of `device`, with `len` elements of `T` and
    ///    one byte of padding, or is dangling if the elements take no bytes.
    /// 2. This value alone owns it, and all work on it comes before the latest record of `event`.
    ptr: NonNull<T>,
    len: usize,
    event: EventOf<B>,
    device: DeviceOf<B>,
}

/// Read-only device memory of backend `B`, for any number of streams and threads.
///
/// It is `Sync`. A stream reads it through [`Env::frozen`]; the memory must outlive the stream.
pub struct Frozen<T, B: Backend> {
    memory: Detached<T, B>,
}

impl<L: DeviceLocation, A> Ctx<'_, L, A> {
    /// Takes `buffer` off the stream, behind everything enqueued so far.
    ///
    /// Only memory of the default allocator can be detached (rule R3).
    ///
    /// Cost: one driver call. The memory takes one event of this stream to the stream that attaches
    /// it. A stream with too many events gives eight of them to the device. A stream without events
    /// takes up to eight from the device, or creates eight if the device has none.
    ///
    /// # Errors
    /// The driver's error, with the buffer.
    #[inline]
    pub fn detach<T: Element>(
        &self,
        buffer: Buffer<T, L>,
    ) -> Result<Detached<T, <L as OnBackend>::Backend>, Rejected<Buffer<T, L>>> {
        match self.handle().record() {
            Ok(record) => {
                let (ptr, len, _) = buffer.into_raw_parts();
                Ok(Detached { ptr, len, event: record.event(), device: self.handle().device().clone() })
            }
            Err(error) => Err(Rejected::new(error, buffer)),
        }
    }

    /// Makes detached memory the memory of this stream. The stream waits for the last use; the host
    /// does not. Cost: one driver call.
    ///
    /// # Errors
    /// [`Error::OtherDevice`](crate::Error::OtherDevice), or the driver's error, with the memory.
    #[inline]
    pub fn attach<T: Element>(
        &self,
        memory: Detached<T, <L as OnBackend>::Backend>,
    ) -> Result<Buffer<T, L>, Rejected<Detached<T, <L as OnBackend>::Backend>>> {
        match self.handle().wait_for(memory.event, &memory.device, "memory") {
            Ok(()) => {
                let (ptr, len, event) = memory.into_parts();
                self.handle().recycle(event);
                // SAFETY:
                // - Invariants 1 and 2. What this stream enqueues from now on runs behind the event
                //   (E3).
                // - Any stream of the device may free memory of `alloc` (M5), and the event is of
                //   the same device (D1).
                Ok(unsafe { Buffer::from_raw_parts(ptr, len, StreamAlloc(self.handle())) })
            }
            Err(error) => Err(Rejected::new(error, memory)),
        }
    }
}

impl<'s, L: DeviceLocation> Env<'s, '_, L> {
    /// A view of frozen memory that this stream may read for the rest of its life. Cost: one driver
    /// call; the host does not wait.
    ///
    /// # Errors
    /// [`Error::OtherDevice`](crate::Error::OtherDevice), or the driver's error.
    #[inline]
    pub fn frozen<T: Element>(&self, memory: &'s Frozen<T, <L as OnBackend>::Backend>) -> Result<View<'s, T, L>> {
        self.handle().wait_for(memory.memory.event, &memory.memory.device, "memory")?;
        // SAFETY:
        // - The elements were all written before the event, and nothing writes them any more. What
        //   the stream enqueues from now on runs behind the event (E3).
        // - The memory outlives the stream's frame. That frame waits for the stream; if it cannot,
        //   memory that streams share is leaked from then on (D7).
        Ok(unsafe { View::from_raw_parts(memory.memory.ptr, memory.memory.len) })
    }
}

impl<T, B: Backend> Detached<T, B> {
    /// How many elements there are.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Makes the memory read-only for all streams. Cost: none. Each stream that reads it waits, on
    /// the device, for what was enqueued before it was detached.
    #[inline]
    #[must_use]
    pub const fn freeze(self) -> Frozen<T, B> {
        Frozen { memory: self }
    }

    fn into_parts(self) -> (NonNull<T>, usize, EventOf<B>) {
        let this = core::mem::ManuallyDrop::new(self);
        // SAFETY:
        // - `this` is neither dropped nor used again, so that the device is moved out once.
        drop(unsafe { core::ptr::read(&this.device) });
        (this.ptr, this.len, this.event)
    }
}

impl<T, B: Backend> Frozen<T, B> {
    /// How many elements there are.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.memory.len
    }

    /// Whether there are none.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.memory.len == 0
    }
}

impl<T, B: Backend> Drop for Detached<T, B> {
    #[inline]
    fn drop(&mut self) {
        let memory = (self.len.wrapping_mul(size_of::<T>()) != 0).then_some(self.ptr.cast());
        // SAFETY:
        // - D6: invariants 1 and 2, and `self` is not used after this. Streams that read the memory
        //   while it was frozen have ended, and were waited for, or `leaks_shared` is true.
        if unsafe { self.device.free_behind(self.event, memory) } {
            return;
        }
        // Tried twice, because memory that cannot be waited for is leaked.
        // SAFETY:
        // - Invariant 2 of the type, and 1 of `events.rs`: the event is of this device, is owned
        //   here, and is not destroyed (E5, E7).
        let wait = || unsafe { self.device.wait_event(self.event) };
        let passed = wait().or_else(|_| wait()).is_ok();
        let shared = self.device.shared();
        if let Some(memory) = memory.filter(|_| passed && !shared.leaks_shared()) {
            // SAFETY:
            // - Invariant 1, and `self` is not used after this (D4).
            // - The event has been passed (H1). Streams that read the memory while it was frozen
            //   have ended, and were waited for, because `leaks_shared` is false (D7).
            // An error is ignored in drop: the memory is leaked (F2).
            let _ = unsafe { self.device.free(memory) };
        }
        let mut event = [self.event].into_iter();
        // SAFETY:
        // - D8: invariant 2. The event is of the device, and `self`, its only owner, is not used
        //   after this.
        unsafe { shared.spare_events() }.keep(&mut event);
        // SAFETY:
        // - As above, for an event that was not kept (E5).
        event.for_each(|event| unsafe { self.device.destroy_event(event) });
    }
}

impl<T, B: Backend> fmt::Debug for Detached<T, B> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detached").field("len", &self.len).finish_non_exhaustive()
    }
}
impl<T, B: Backend> fmt::Debug for Frozen<T, B> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frozen").field("len", &self.len()).finish_non_exhaustive()
    }
}

// SAFETY:
// - Detached memory is tied to no thread (D4, D5). Events and devices are `Send`.
unsafe impl<T: Send, B: Backend> Send for Detached<T, B> {}
// SAFETY:
// - A shared reference to `Detached` gives access to the length only, and one to `Frozen` lets
//   streams read the elements.
unsafe impl<T: Sync, B: Backend> Sync for Detached<T, B> {}
