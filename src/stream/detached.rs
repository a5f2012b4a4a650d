//! Device memory that belongs to no stream.

use core::{alloc::Layout, fmt, marker::PhantomData, ptr::NonNull};
use std::sync::Arc;

use tidelock_driver::{AllocError, Backend, RawDevice};

use super::record::SharedRecord;
use crate::{
    alloc::Allocator,
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
///
/// Memory that another library gets, and frees when it likes, is detached and shared. An exporter such
/// as that of DLPack has an owner of it behind a raw pointer, and drops the owner in its deleter, on
/// any thread:
///
/// ```
/// use core::ffi::c_void;
/// use tidelock::{driver::Backend, sim, stream::{Detached, Shared}};
///
/// /// What the other library gets.
/// #[repr(C)]
/// struct Capsule {
///     data: *const c_void,
///     len: usize,
///     owner: *mut c_void,
///     delete: unsafe extern "C" fn(*mut c_void),
/// }
///
/// fn export<B: Backend>(tensor: Shared<f32, Detached<B>>) -> Capsule {
///     /// # Safety
///     /// - `owner` is that of a capsule, and is not used again.
///     unsafe extern "C" fn delete<B: Backend>(owner: *mut c_void) {
///         // SAFETY: it comes from `Box::into_raw`, and is given up here, once.
///         drop(unsafe { Box::from_raw(owner.cast::<Shared<f32, Detached<B>>>()) });
///     }
///     let (data, len) = (tensor.as_ptr().cast(), tensor.len());
///     Capsule { data, len, owner: Box::into_raw(Box::new(tensor)).cast(), delete: delete::<B> }
/// }
///
/// let device = sim::Device::default();
/// let (kept, capsule) = device.stream(|mut stream, _env| -> tidelock::Result<_> {
///     let ctx = stream.ctx().with_pool();
///     let shared = ctx.detach(ctx.upload_new(&[1.0, 2.0, 3.0])?.share())?;
///     // The other library orders nothing behind this stream: wait for it.
///     stream.synchronize()?;
///     Ok((shared.clone(), export(shared)))
/// })??;
/// assert_eq!((capsule.data.cast(), capsule.len), (kept.as_ptr(), 3));
/// // SAFETY: nothing uses the capsule again.
/// unsafe { (capsule.delete)(capsule.owner) };
/// # Ok::<(), tidelock::Error>(())
/// ```
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

    pub(super) fn shared_record(&self) -> Arc<SharedRecord<B>> {
        Arc::clone(&self.record)
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
        if unsafe { device.free_behind(&[event], ptr) }.is_err() {
            // An error is ignored in drop: the memory is leaked (F2).
            device.shared().count_leak(layout.size());
        }
    }
}

impl<B: Backend> Clone for DetachedAlloc<B> {
    #[inline]
    fn clone(&self) -> Self {
        DetachedAlloc { record: Arc::clone(&self.record) }
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

#[cfg(all(feature = "dlpack", feature = "cuda-core"))]
impl<T, B: Backend> super::shared::Shared<T, Detached<B>> {
    /// The event of the record behind the last use of this owner, and the device.
    pub(crate) fn last_use(&self) -> (tidelock_driver::EventOf<B>, tidelock_driver::DeviceOf<B>) {
        let record = super::crossing::Attaches::base(self).record();
        (record.at().event(), record.device().clone())
    }

    /// The same owner, whose last use lies behind another event.
    ///
    /// # Safety
    /// - `event` is of the device, and is given away. Until this owner is dropped, it stands for a
    ///   point behind all that uses the memory for this owner, before this call and after it.
    pub(crate) unsafe fn used_before(self, event: tidelock_driver::EventOf<B>) -> Self {
        let (_, device) = self.last_use();
        let record = Arc::new(SharedRecord::of_no_stream(event, device));
        self.moved(DetachedAlloc::new(record))
    }
}
