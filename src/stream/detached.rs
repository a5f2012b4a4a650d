//! Device memory that belongs to no stream: on its way between threads, or frozen to be read by
//! many.

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

/// Device memory of backend `B` that is attached to no stream, and an event behind its last use.
///
/// It is `Send`, and outlives streams and [`Device`](crate::sim::Device) values: it keeps its
/// device alive. Dropping it waits for the event and frees the memory; [`Ctx::attach`] or
/// [`freeze`](Detached::freeze) it instead. Dropped inside a simulated kernel it does not wait: the
/// device frees it when the event was passed.
#[must_use = "dropping detached memory holds the thread until the device has finished with it"]
pub struct Detached<T, B: Backend> {
    /// Invariants:
    /// 1. `ptr` comes from the stream-ordered allocator of `device`, with `len` elements of `T` and
    ///    one byte of padding, unless they take no bytes.
    /// 2. Nobody else owns it, and all work on it lies before `event`.
    ptr: NonNull<T>,
    len: usize,
    event: EventOf<B>,
    device: DeviceOf<B>,
}

/// Device memory of backend `B` that is read, by any number of streams and threads, and written by
/// nobody.
///
/// `Sync`. A stream gets at it with [`Env::frozen`], for which it must outlive the stream.
pub struct Frozen<T, B: Backend> {
    memory: Detached<T, B>,
}

impl<L: DeviceLocation, A> Ctx<'_, L, A> {
    /// Takes `buffer` off the stream, behind everything enqueued so far.
    ///
    /// Only memory of the default allocator can be detached (rule R3). Cost: one driver call; the
    /// memory takes one of the stream's events along. It goes to the stream that attaches the
    /// memory; what that has too many of is the device's, of which a stream takes eight when it has
    /// none, before it creates eight.
    ///
    /// # Errors
    /// What the driver answered, with the buffer.
    #[inline]
    pub fn detach<T: Element>(
        &self,
        buffer: Buffer<T, L>,
    ) -> Result<Detached<T, <L as OnBackend>::Backend>, Rejected<Buffer<T, L>>> {
        match self.handle().record() {
            Ok(mark) => {
                let (ptr, len, _) = buffer.into_raw_parts();
                Ok(Detached { ptr, len, event: mark.event(), device: self.handle().device().clone() })
            }
            Err(error) => Err(Rejected::new(error, buffer)),
        }
    }

    /// Makes detached memory this stream's, which waits on the device for its last use. Cost: one
    /// driver call.
    ///
    /// # Errors
    /// [`Error::OtherDevice`](crate::Error::OtherDevice), or what the driver answered, with the
    /// memory.
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
                // - Invariants 1 and 2; what this stream enqueues from now on runs behind the
                //   event.
                // - The stream-ordered allocator takes memory of its device back on any of the
                //   device's streams.
                Ok(unsafe { Buffer::from_raw_parts(ptr, len, StreamAlloc(self.handle())) })
            }
            Err(error) => Err(Rejected::new(error, memory)),
        }
    }
}

impl<'s, L: DeviceLocation> Env<'s, '_, L> {
    /// Frozen memory as this stream's, to read for the rest of the stream's life. Cost: one driver
    /// call; the host does not wait.
    ///
    /// # Errors
    /// [`Error::OtherDevice`](crate::Error::OtherDevice), or what the driver answered.
    #[inline]
    pub fn frozen<T: Element>(&self, memory: &'s Frozen<T, <L as OnBackend>::Backend>) -> Result<View<'s, T, L>> {
        self.handle().wait_for(memory.memory.event, &memory.memory.device, "memory")?;
        // SAFETY:
        // - The elements were all written before the event, which the stream waits for before
        //   anything that is enqueued from now on, and nobody writes them any more.
        // - The memory outlives the stream's frame, which waits for the stream, or memory that
        //   streams share is leaked from then on.
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

    /// Makes the memory read-only for everybody. Cost: none; each stream that reads it waits, on
    /// the device, for what was enqueued before it was detached.
    #[inline]
    #[must_use]
    pub const fn freeze(self) -> Frozen<T, B> {
        Frozen { memory: self }
    }

    fn into_parts(self) -> (NonNull<T>, usize, EventOf<B>) {
        let this = core::mem::ManuallyDrop::new(self);
        // SAFETY:
        // - `this` is never dropped nor used again, so that the device is moved out of it once.
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
        // - Invariants 1 and 2, and `self` is gone after this. Streams that read the memory frozen
        //   have ended, and all of them were waited for, or what streams share is leaked.
        if unsafe { self.device.free_behind(self.event, memory) } {
            return;
        }
        // Tried twice: what cannot be waited for is leaked. SAFETY:
        // - Invariant 2 of the type, and 1 of `events.rs`: the event is of the device and owned
        //   here.
        let wait = || unsafe { self.device.wait_event(self.event) };
        let passed = wait().or_else(|_| wait()).is_ok();
        let shared = self.device.shared();
        if let Some(memory) = memory.filter(|_| passed && !shared.leaks_shared()) {
            // SAFETY:
            // - Invariant 1, and `self` is gone after this.
            // - The event was passed. Streams that read the memory frozen have ended, and all of
            //   them were waited for, because what streams share is not leaked.
            // A failure leaves the memory where it is.
            let _ = unsafe { self.device.free(memory) };
        }
        let mut event = [self.event].into_iter();
        // SAFETY:
        // - Invariant 2: the event is of the device, and `self`, its only owner, is gone after this.
        unsafe { shared.spare_events() }.keep(&mut event);
        // SAFETY:
        // - As above, for what was not kept.
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
// - Detached memory belongs to no thread; it is owned, an event and a device handle are `Send`.
unsafe impl<T: Send, B: Backend> Send for Detached<T, B> {}
// SAFETY:
// - A shared reference gives the length only.
unsafe impl<T: Sync, B: Backend> Sync for Detached<T, B> {}
