//! Memory that was allocated elsewhere, as shared memory of a stream or of none.

use core::ptr::NonNull;
use std::sync::Arc;

use tidelock_driver::{Backend, EventOf, RawDevice, Rejected};

use super::{
    Ctx,
    detached::{Detached, DetachedAlloc},
    location::DeviceLocation,
    record::SharedRecord,
    shared::Shared,
    shared_memory::Source,
};

impl<T, L: DeviceLocation> Shared<T, L> {
    /// Shared memory of the stream of `ctx` that was allocated elsewhere.
    ///
    /// `owner` is dropped once every stream has passed its last use of the memory, on any thread: that
    /// of a stream which is seen to have passed, that which drops the last detached owner, or a thread
    /// of the library. Its drop may use the library. A panic in it is ignored. If the device breaks,
    /// `owner` is leaked.
    ///
    /// Cost: two heap allocations.
    ///
    /// # Safety
    /// - `ptr` is aligned, and `len` elements of `T` lie there on the device of the stream, inside one
    ///   allocation, until `owner` is dropped, once the stream has passed what is enqueued now.
    /// - Until then nothing else writes them. If [`get_mut`](Shared::get_mut) is called, nothing
    ///   else accesses them.
    /// - Each end of the range lies inside the allocation, or is not adjacent to memory that is
    ///   used in the same batch group.
    #[inline]
    #[must_use]
    pub unsafe fn from_raw<A, O: Send + Sync + 'static>(
        ctx: &Ctx<'_, L, A>,
        ptr: NonNull<T>,
        len: usize,
        owner: O,
    ) -> Self {
        Shared::new(ptr, len, Source::owner(owner), ctx.handle())
    }
}

#[cfg(feature = "dlpack")]
impl<T, L: DeviceLocation> Shared<T, L> {
    /// As [`from_raw`](Shared::from_raw), of memory that others may read too: it is never written here.
    ///
    /// # Safety
    /// - As for [`from_raw`](Shared::from_raw), without what is said of `get_mut`.
    pub(crate) unsafe fn from_raw_read_only<A, O: Send + Sync + 'static>(
        ctx: &Ctx<'_, L, A>,
        ptr: NonNull<T>,
        len: usize,
        owner: O,
    ) -> Self {
        Shared::new(ptr, len, Source::read_only_owner(owner), ctx.handle())
    }
}

impl<T, B: Backend> Shared<T, Detached<B>> {
    /// Detached memory that was allocated elsewhere, and that may be used once the device has passed
    /// `ready`. Without `ready` it may be used now.
    ///
    /// What `ready` stands for during the call counts. The event stays the caller's: it may be recorded
    /// again, or destroyed, once this returns. `owner` is dropped as for [`from_raw`](Shared::from_raw).
    ///
    /// Cost: the driver call that creates an event, and with `ready` two more, on a stream of the
    /// library's own; three heap allocations. The host does not wait.
    ///
    /// # Errors
    /// The driver's error, with `owner`.
    ///
    /// # Safety
    /// - `ptr` is aligned. `len` elements of `T` lie there on `device`, inside one allocation, once the
    ///   device has passed `ready`, until `owner` is dropped.
    /// - Until then nothing else writes them, except what lies before `ready`. If
    ///   [`get_mut`](Shared::get_mut) is called, nothing else accesses them, with the same exception.
    /// - Each end of the range lies inside the allocation, or is not adjacent to memory that is
    ///   used in the same batch group.
    /// - `ready` is an event of the device (E7) that is not destroyed during the call. On CUDA it may
    ///   be one of any device, and its latest record is not part of a stream capture.
    ///
    /// ```
    /// use std::{ptr::NonNull, sync::Arc};
    /// use tidelock::{sim, stream::Shared};
    ///
    /// let device = sim::Device::default();
    /// // Another library has this memory.
    /// let theirs = Arc::new(device.stream(|stream, _env| -> tidelock::Result<_> {
    ///     let ctx = stream.ctx().with_pool();
    ///     Ok(ctx.detach(ctx.upload_new(&[1_u32, 2, 3])?)?)
    /// })??);
    /// let ptr = NonNull::new(theirs.view().as_ptr().cast_mut()).unwrap();
    /// // SAFETY: the three elements live as long as `theirs`, nothing writes them, and the stream
    /// // that wrote them has ended.
    /// let shared = unsafe { Shared::<u32, _>::from_raw_detached(&device, ptr, 3, None, theirs.clone()) }?;
    /// device.stream(|stream, _env| -> tidelock::Result<()> {
    ///     let ctx = stream.ctx().with_pool();
    ///     let shared = ctx.attach(shared)?;
    ///     drop(ctx.init_from(ctx.alloc(3)?, shared.view())?);
    ///     Ok(())
    /// })??;
    /// assert_eq!(Arc::strong_count(&theirs), 1);
    /// # Ok::<(), tidelock::Error>(())
    /// ```
    #[inline]
    pub unsafe fn from_raw_detached<V, O>(
        device: &V,
        ptr: NonNull<T>,
        len: usize,
        ready: Option<EventOf<B>>,
        owner: O,
    ) -> Result<Self, Rejected<O>>
    where
        V: RawDevice<Backend = B>,
        B: Backend<Device = V>,
        O: Send + Sync + 'static,
    {
        // SAFETY:
        // - The caller promises that the event is of the device, or one that the device takes, and
        //   alive.
        match unsafe { device.event_behind(ready) } {
            Ok(event) => {
                let record = Arc::new(SharedRecord::of_no_stream(event, device.clone()));
                Ok(Shared::new(ptr, len, Source::owner(owner), DetachedAlloc::new(record)))
            }
            Err(error) => Err(Rejected::new(error, owner)),
        }
    }
}
