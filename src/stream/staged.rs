//! Pinned memory by value: staged for a stream, read while the stream is known to be idle, and
//! taken back.

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
    /// Stages the memory for the stream of `ctx`. Operations of the stream may use it then, and the
    /// host may not.
    ///
    /// Only memory of the default pinned allocator can be staged, because its free can be deferred
    /// and that of an arena cannot (rule R3). Cost: three moves.
    #[inline]
    #[must_use]
    pub fn stage<L: DeviceLocation, A>(self, ctx: &Ctx<'_, L, A>) -> Buffer<T, Staged<L>>
    where
        Self: Stageable<L>,
    {
        let (ptr, len, _) = self.into_raw_parts();
        // SAFETY:
        // - The memory comes from the pinned pool of the stream's backend (`Self: Stageable<L>`),
        //   to which `StagedAlloc` returns it.
        // - It was owned by `self`, and every element is a `T`.
        unsafe { Buffer::from_raw_parts(ptr, len, StagedAlloc(ctx.handle())) }
    }
}

impl<T, L: DeviceLocation> Buffer<T, Staged<L>> {
    /// Takes the memory back from the stream, which is known to be idle. Cost: two moves.
    #[inline]
    #[must_use]
    pub fn reclaim(self, _: &Synced<'_, L>) -> Buffer<T, Pinned<L::Backend>> {
        // SAFETY:
        // - `Synced` proves that the stream has passed everything enqueued (H1). Nothing more can
        //   be enqueued on the memory, which is moved here.
        unsafe { self.unstage("reclaim") }
    }

    /// The elements, while the stream is known to be idle. Cost: none.
    #[inline]
    #[must_use]
    pub fn peek<'a>(&'a self, _: &'a Synced<'_, L>) -> &'a [T] {
        let len = self.len();
        // SAFETY:
        // - P4: the elements belong to `self`, which is borrowed, and `Synced` proves that the
        //   stream was waited for (H1).
        unsafe { Pinned::<L::Backend>::host_touches(HostAccess::read(self.as_ptr().cast(), self.byte_len(), "peek")) };
        // SAFETY:
        // - Staged memory is host memory (P1). The elements are `T` and visible, because the stream
        //   has passed everything enqueued (H1).
        // - While `Synced` is borrowed there is no context, so that only frees, allocations and
        //   waits can be enqueued. They write no memory that a buffer owns, and this buffer is
        //   borrowed. So the elements are not written during `'a`.
        unsafe { core::slice::from_raw_parts(self.as_ptr(), len) }
    }

    /// The elements, mutably, while the stream is known to be idle. Cost: none.
    #[inline]
    #[must_use]
    pub fn peek_mut<'a>(&'a mut self, _: &'a Synced<'_, L>) -> &'a mut [T] {
        let len = self.len();
        // SAFETY:
        // - As in `peek`. The buffer is borrowed exclusively.
        unsafe {
            Pinned::<L::Backend>::host_touches(HostAccess::write(self.as_ptr().cast(), self.byte_len(), "peek_mut"))
        };
        // SAFETY:
        // - As in `peek`. The buffer is borrowed exclusively, so that nothing else uses it during
        //   `'a`.
        unsafe { core::slice::from_raw_parts_mut(self.as_mut_ptr(), len) }
    }

    /// Converts the memory to pinned memory. `how` names the operation in a race report.
    ///
    /// # Safety
    /// - The stream has passed everything that was enqueued on the memory, and nothing more is
    ///   enqueued on it.
    #[inline]
    unsafe fn unstage(self, how: &'static str) -> Buffer<T, Pinned<L::Backend>> {
        // SAFETY:
        // - P4: the elements belong to `self`, and the caller promises that the stream has passed
        //   all work on them.
        unsafe { Pinned::<L::Backend>::host_touches(HostAccess::write(self.as_ptr().cast(), self.byte_len(), how)) };
        let (ptr, len, _): (NonNull<T>, usize, StagedAlloc<L>) = self.into_raw_parts();
        // SAFETY:
        // - The memory comes from the pinned pool of the backend: `stage` accepts no other.
        // - It was owned by `self`, and the stream does not use it any more.
        unsafe { Buffer::from_raw_parts(ptr, len, PinnedAlloc::new()) }
    }
}

impl<L: DeviceLocation, A> Ctx<'_, L, A> {
    /// Takes `buffers` out of the stream behind everything enqueued so far, with one event for all
    /// of them.
    ///
    /// Later work cannot use them, so that one event is enough: [`Pending::wait`] returns them
    /// while the stream continues. `buffers` is a staged buffer or a tuple of up to eight.
    ///
    /// Cost: one driver call. A stream opens with eight events. Each is used again once its fence
    /// was waited for or dropped. When all are in use, the next operation that needs one takes up
    /// to eight spare events of the device, or creates eight if there are none.
    ///
    /// # Errors
    /// The driver's error, with the buffers, which are still staged.
    #[inline]
    pub fn fence<F: Fenceable<L>>(&self, buffers: F) -> Result<Pending<F, L>, Rejected<F>> {
        match self.handle().record() {
            Ok(record) => Ok(Pending { buffers: Some(buffers), record, handle: self.handle() }),
            Err(error) => Err(Rejected::new(error, buffers)),
        }
    }
}

/// Buffers that are being copied back to the host.
///
/// Dropping it drops the buffers: their frees are deferred until the stream is seen to have passed.
#[must_use = "the buffers come back through `wait`"]
pub struct Pending<F, L: DeviceLocation> {
    /// `None` only inside `wait`.
    buffers: Option<F>,
    record: EventRecord<EventOf<L::Backend>>,
    handle: L::Handle,
}

impl<F: Fenceable<L>, L: DeviceLocation> Pending<F, L> {
    /// Waits until the stream has passed the fence, and returns the buffers as pinned memory.
    ///
    /// Cost: one driver call, which blocks the calling thread. It does not wait for work behind the
    /// fence.
    ///
    /// # Errors
    /// The driver's error, with `self`, so that the wait can be tried again.
    #[inline]
    pub fn wait(mut self) -> Result<F::Host, Rejected<Self>> {
        if let Err(error) = self.handle.wait_for_record(&self.record) {
            return Err(Rejected::new(error, self));
        }
        match self.buffers.take() {
            // SAFETY:
            // - The stream has passed the fence (H1), and no later work could use the buffers.
            Some(buffers) => Ok(unsafe { buffers.unstage_all() }),
            None => Err(Rejected::new(crate::Error::OutOfRange { operand: "pending" }, self)),
        }
    }

    /// Whether [`wait`](Pending::wait) would return at once. Cost: one driver call.
    ///
    /// # Errors
    /// The driver's error.
    #[inline]
    pub fn is_ready(&self) -> Result<bool> {
        self.handle.query_record(&self.record)
    }
}

impl<F, L: DeviceLocation> Drop for Pending<F, L> {
    #[inline]
    fn drop(&mut self) {
        self.handle.recycle_record(self.record);
    }
}

// SAFETY:
// - No device location is `AnyThread`, so that this applies to no type. It makes the compiler give
//   its reason.
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

/// A buffer that can be staged for stream `L`: pinned memory of its backend, from the default
/// allocator. Sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be staged for stream `{L}`",
    label = "expected pinned memory of the default allocator, `Buffer<T, L::Pinned>`",
    note = "allocate it with `ctx.alloc_pinned::<T>(len)`; an arena would hand the memory out again before the stream is done with it",
    note = "plain host memory goes up with `ctx.upload(&slice, destination)`; staged and device memory are the stream's already"
)]
pub trait Stageable<L: DeviceLocation>: sealed::SealedStageable<L> {}

impl<T, L: DeviceLocation> Stageable<L> for Buffer<T, Pinned<L::Backend>> {}

/// Buffers that can be fenced on stream `L`: a staged buffer, or a tuple of up to eight. Sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be fenced on stream `{L}`",
    label = "expected `Buffer<T, Staged<{L}>>` or a tuple of such buffers, by value",
    note = "a fence takes its buffers by value, so that nothing can use them behind it: `ctx.fence(staged)`, not `ctx.fence(&staged)`"
)]
pub trait Fenceable<L: DeviceLocation>: sealed::SealedFenceable<L> {
    /// The buffers as pinned memory.
    type Host;
    /// Converts the buffers to pinned memory.
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

/// The seals of `Fenceable` and `Stageable`, each with the parameter of its trait.
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
