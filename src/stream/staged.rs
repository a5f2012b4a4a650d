//! Pinned memory by value: staged for a stream, looked at while the stream is known to rest, and
//! got back.

use core::{fmt, ptr::NonNull};

use tidelock_driver::{EventOf, HostAccess};

use super::{
    Ctx, StagedAlloc, Synced,
    events::EventRecord,
    location::{DeviceLocation, Staged},
};
use crate::{
    alloc::{Allocator, PinnedAlloc},
    buffer::Buffer,
    error::{Rejected, Result},
    location::{AnyThread, Location, Pinned},
};

impl<T, D: Location, X: Allocator<D>> Buffer<T, D, X> {
    /// Hands the memory to the stream of `ctx`: operations may use it, the host may not.
    ///
    /// Only memory of the default pinned allocator can be staged: its free can wait for the stream,
    /// an arena's cannot (rule R3). Cost: three moves.
    #[inline]
    #[must_use]
    pub fn stage<L: DeviceLocation, A>(self, ctx: &Ctx<'_, L, A>) -> Buffer<T, Staged<L>>
    where
        Self: Stageable<L>,
    {
        let (ptr, len, _) = self.into_raw_parts();
        // SAFETY:
        // - The memory comes from the pinned pool of the stream's backend, which is where
        //   `StagedAlloc` gives it back to: `Self: Stageable<L>`.
        // - It was owned by `self`; every element is a `T`.
        unsafe { Buffer::from_raw_parts(ptr, len, StagedAlloc(ctx.handle())) }
    }
}

impl<T, L: DeviceLocation> Buffer<T, Staged<L>> {
    /// Gets the memory back from the stream, which is known to rest. Cost: two moves.
    #[inline]
    #[must_use]
    pub fn reclaim(self, _: &Synced<'_, L>) -> Buffer<T, Pinned<L::Backend>> {
        // SAFETY:
        // - `Synced` proves that the stream has passed everything enqueued; nothing more can be
        //   enqueued on the memory, which is given up here.
        unsafe { self.unstage("reclaim") }
    }

    /// The elements, while the stream is known to rest. Cost: none.
    #[inline]
    #[must_use]
    pub fn peek<'a>(&'a self, _: &'a Synced<'_, L>) -> &'a [T] {
        let len = self.len();
        // SAFETY:
        // - The elements belong to `self`, which is borrowed, and `Synced` proves that the stream
        //   was waited for.
        unsafe { Pinned::<L::Backend>::host_touches(HostAccess::read(self.as_ptr().cast(), self.byte_len(), "peek")) };
        // SAFETY:
        // - Staged memory is host memory; the elements are `T`, because the stream has passed
        //   everything enqueued.
        // - While `Synced` is borrowed there is no context, so that only frees, allocations and
        //   waits can be enqueued. They write memory that nobody has; this buffer is borrowed. So
        //   nobody writes the elements during `'a`.
        unsafe { core::slice::from_raw_parts(self.as_ptr(), len) }
    }

    /// The elements, to write, while the stream is known to rest. Cost: none.
    #[inline]
    #[must_use]
    pub fn peek_mut<'a>(&'a mut self, _: &'a Synced<'_, L>) -> &'a mut [T] {
        let len = self.len();
        // SAFETY:
        // - As in `peek`; the buffer is borrowed exclusively.
        unsafe {
            Pinned::<L::Backend>::host_touches(HostAccess::write(self.as_ptr().cast(), self.byte_len(), "peek_mut"))
        };
        // SAFETY:
        // - As in `peek`; the buffer is borrowed exclusively, so that nobody else touches it during
        //   `'a`.
        unsafe { core::slice::from_raw_parts_mut(self.as_mut_ptr(), len) }
    }

    /// The memory as the host's; `how` names the way it comes back.
    ///
    /// # Safety
    /// - The stream has passed everything that was enqueued on the memory, and nothing more is
    ///   enqueued on it.
    #[inline]
    unsafe fn unstage(self, how: &'static str) -> Buffer<T, Pinned<L::Backend>> {
        // SAFETY:
        // - The elements belong to `self`, and the caller promises that the stream has passed all
        //   work on them.
        unsafe { Pinned::<L::Backend>::host_touches(HostAccess::write(self.as_ptr().cast(), self.byte_len(), how)) };
        let (ptr, len, _): (NonNull<T>, usize, StagedAlloc<L>) = self.into_raw_parts();
        // SAFETY:
        // - The memory comes from the pinned pool of the backend: `stage` takes no other.
        // - It was owned by `self`, and the stream does not use it any more.
        unsafe { Buffer::from_raw_parts(ptr, len, PinnedAlloc::new()) }
    }
}

impl<L: DeviceLocation, A> Ctx<'_, L, A> {
    /// Takes `buffers` out of the stream behind everything enqueued so far, with one event for all
    /// of them.
    ///
    /// Nothing later can use them, which is why an event is enough: [`Pending::wait`] gets them
    /// back while the stream goes on. `buffers` is a staged buffer or a tuple of up to eight.
    ///
    /// Cost: one driver call. A stream opens with eight events, each of which is used again once
    /// its fence was waited for; when all are in use, the next operation that needs one takes up to
    /// eight that the device has to spare, or creates eight more.
    ///
    /// # Errors
    /// What the driver answered, with the buffers, still staged.
    #[inline]
    pub fn fence<F: Fenceable<L>>(&self, buffers: F) -> Result<Pending<F, L>, Rejected<F>> {
        match self.handle().record() {
            Ok(mark) => Ok(Pending { buffers: Some(buffers), mark, handle: self.handle() }),
            Err(error) => Err(Rejected::new(error, buffers)),
        }
    }
}

/// Staged buffers on their way back to the host.
///
/// Dropping it gives the memory up; it is freed when the stream is seen to have passed.
#[must_use = "the buffers come back through `wait`"]
pub struct Pending<F, L: DeviceLocation> {
    /// `None` only inside `wait`.
    buffers: Option<F>,
    mark: EventRecord<EventOf<L::Backend>>,
    handle: L::Handle,
}

impl<F: Fenceable<L>, L: DeviceLocation> Pending<F, L> {
    /// Waits until the stream has passed the fence, and gives the buffers back as pinned memory.
    ///
    /// Cost: one driver call, which holds the calling thread; no work enqueued behind the fence is
    /// waited for.
    ///
    /// # Errors
    /// What the driver answered, with `self`, so that it can be tried again.
    #[inline]
    pub fn wait(mut self) -> Result<F::Host, Rejected<Self>> {
        if let Err(error) = self.handle.observe(&self.mark) {
            return Err(Rejected::new(error, self));
        }
        match self.buffers.take() {
            // SAFETY:
            // - The stream has passed the fence, and the buffers were out of its reach since.
            Some(buffers) => Ok(unsafe { buffers.unstage_all() }),
            None => Err(Rejected::new(crate::Error::OutOfRange { operand: "pending" }, self)),
        }
    }

    /// Whether [`wait`](Pending::wait) would return at once. Cost: one driver call.
    ///
    /// # Errors
    /// What the driver answered.
    #[inline]
    pub fn is_ready(&self) -> Result<bool> {
        self.handle.query(&self.mark)
    }
}

impl<F, L: DeviceLocation> Drop for Pending<F, L> {
    #[inline]
    fn drop(&mut self) {
        self.handle.recycle_record(self.mark);
    }
}

// SAFETY:
// - No device location is `AnyThread`: there are no such fences. Written out so that the compiler
//   gives its reason.
unsafe impl<F, L: DeviceLocation + AnyThread> Send for Pending<F, L> {}
// SAFETY:
// - As above.
unsafe impl<F, L: DeviceLocation + AnyThread> Sync for Pending<F, L> {}

impl<F, L: DeviceLocation> fmt::Debug for Pending<F, L> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").finish_non_exhaustive()
    }
}

/// What can be staged for stream `L`: pinned memory of its backend, from the default allocator.
/// Sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be staged for stream `{L}`",
    label = "expected pinned memory of the default allocator, `Buffer<T, L::Pinned>`",
    note = "allocate it with `ctx.alloc_pinned::<T>(len)`; an arena would hand the memory out again before the stream is done with it",
    note = "plain host memory goes up with `ctx.upload(&slice, destination)`; staged and device memory are the stream's already"
)]
pub trait Stageable<L: DeviceLocation>: sealed::SealedStageable<L> {}

impl<T, L: DeviceLocation> Stageable<L> for Buffer<T, Pinned<L::Backend>> {}

/// What can be fenced on stream `L`: a staged buffer, or a tuple of up to eight. Sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be fenced on stream `{L}`",
    label = "expected `Buffer<T, Staged<{L}>>` or a tuple of such buffers, by value",
    note = "a fence takes its buffers by value, so that nothing can use them behind it: `ctx.fence(staged)`, not `ctx.fence(&staged)`"
)]
pub trait Fenceable<L: DeviceLocation>: sealed::SealedFenceable<L> {
    /// What comes back.
    type Host;
    /// The memory as the host's.
    ///
    /// # Safety
    /// - The stream has passed everything that was enqueued on the memory, and nothing more is
    ///   enqueued on it.
    #[doc(hidden)]
    unsafe fn unstage_all(self) -> Self::Host;
}

impl<T, L: DeviceLocation> Fenceable<L> for Buffer<T, Staged<L>> {
    type Host = Buffer<T, Pinned<L::Backend>>;
    #[inline]
    unsafe fn unstage_all(self) -> Self::Host {
        // SAFETY:
        // - The caller keeps the same contract.
        unsafe { self.unstage("Pending::wait") }
    }
}

macro_rules! tuples {
    ($(($($name:ident)+))+) => {$(
        impl<L: DeviceLocation, $($name: Fenceable<L>),+> Fenceable<L> for ($($name,)+) {
            type Host = ($($name::Host,)+);
            #[inline]
            #[expect(non_snake_case, reason = "the variables are named like their types")]
            unsafe fn unstage_all(self) -> Self::Host {
                let ($($name,)+) = self;
                // SAFETY:
                // - The caller keeps the same contract, for each of them.
                ($(unsafe { $name.unstage_all() },)+)
            }
        }
        impl<L: DeviceLocation, $($name: Fenceable<L>),+> sealed::SealedFenceable<L> for ($($name,)+) {}
    )+};
}
tuples! {
    (A) (A B) (A B C) (A B C D) (A B C D E) (A B C D E F) (A B C D E F G) (A B C D E F G H)
}

/// Each has the parameter of the trait that it seals.
mod sealed {
    use super::{Buffer, DeviceLocation, Pinned, Staged};
    /// Implemented for the staged buffers of stream `L`, and tuples of them.
    #[diagnostic::on_unimplemented(
        message = "`Fenceable` is sealed, and `{Self}` cannot be fenced on stream `{L}`",
        label = "not `Buffer<T, Staged<{L}>>` or a tuple of such buffers",
        note = "a struct of your own is fenced as the tuple of its buffers: `ctx.fence((self.tokens, self.logits))`"
    )]
    pub trait SealedFenceable<L> {}
    impl<T, L: DeviceLocation> SealedFenceable<L> for Buffer<T, Staged<L>> {}

    /// Implemented for pinned memory of the backend of `L`, from the default allocator.
    #[diagnostic::on_unimplemented(
        message = "`Stageable` is sealed, and `{Self}` cannot be staged for stream `{L}`",
        label = "not pinned memory of the default allocator",
        note = "a struct of your own is staged buffer by buffer: `self.tokens.stage(&ctx)`"
    )]
    pub trait SealedStageable<L> {}
    impl<T, L: DeviceLocation> SealedStageable<L> for Buffer<T, Pinned<L::Backend>> {}
}
