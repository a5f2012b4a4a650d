//! A stream and its memory as cudarc's safe layer takes them, and cudarc's memory as shared memory.

use core::{fmt, marker::PhantomData, ptr, ptr::NonNull};
use std::sync::Arc;

use cudarc::driver::{
    CudaContext, CudaSlice, CudaStream, DevicePtr, DevicePtrMut, DeviceSlice, SyncOnDrop,
    sys::{CUdeviceptr, CUstreamCaptureStatus},
};
use tidelock_driver::{Code, DriverError, Rejected};

use super::{Cuda, CudaBackend, Device, event::Event};
use crate::{
    Element,
    buffer::{View, ViewMut},
    error::{Error, Result},
    location::AnyThread,
    stream::{Ctx, Detached, Shared},
};

/// A stream of this library, as a stream of cudarc: for its launch builder, its copies, its cuBLAS and
/// NCCL handles. [`Ctx::to_cudarc`] makes one.
///
/// It borrows the [`Stream`](crate::Stream), as a context does. So the host waits for the stream only
/// while there are neither bridges nor arguments of them.
pub struct Bridge<'c, 's> {
    stream: Arc<CudaStream>,
    /// Neither `Send` nor `Sync`, and invariant in the brand.
    brand: PhantomData<(&'c (), Cuda<'s>, *const ())>,
}

/// A view as an argument of cudarc's safe layer, which reads it: a [`DevicePtr`].
///
/// cudarc enqueues the work on a stream of its choice. On the bridge's own stream this costs no driver
/// call. Any other stream waits for the bridge's stream first; and when the call has enqueued its
/// work, the host waits for that other stream. On a stream that is being captured, and where the wait
/// is refused, cudarc gets the address 0, which its copies refuse.
pub struct BridgeView<'v, T> {
    address: CUdeviceptr,
    len: usize,
    stream: &'v Arc<CudaStream>,
    /// Neither `Send` nor `Sync`, like the view.
    borrow: PhantomData<(&'v [T], *const ())>,
}

/// As [`BridgeView`], for memory that is read and written: a [`DevicePtrMut`].
pub struct BridgeViewMut<'v, T> {
    view: BridgeView<'v, T>,
    /// Exclusive, like the view.
    borrow: PhantomData<&'v mut [T]>,
}

/// On a CUDA stream.
impl<'c, 's, A> Ctx<'c, Cuda<'s>, A> {
    /// The stream as a stream of cudarc. `context` is that of the device.
    ///
    /// Cost: no driver call, one heap allocation. From then on the hand-overs of this stream share no
    /// records, as after [`raw_stream`](Ctx::raw_stream).
    ///
    /// # Errors
    /// [`Error::OtherDevice`] if `context` is another one, or if the stream is poisoned.
    ///
    /// # Safety
    /// - Everything of cudarc that has the stream is dropped before the stream ends: clones of the
    ///   [`Arc`], memory that was allocated on it, handles of libraries. A stream ends with its closure;
    ///   a lane's ends with the lane.
    /// - No capture begins on the stream.
    /// - Views of the bridge are not passed to streams of another context, behind which cudarc orders
    ///   nothing, nor to a communicator while a group of NCCL is open, because the work is enqueued at
    ///   the end of the group.
    /// - Work that `unsafe` code enqueues on the stream meets the conditions of
    ///   [`launch_kernel`](Ctx::launch_kernel).
    #[inline]
    pub unsafe fn to_cudarc(&self, context: &Arc<CudaContext>) -> Result<Bridge<'c, 's>> {
        let ours = self.handle().device().context;
        if context.cu_ctx().addr() != ours.address() {
            return Err(Error::OtherDevice { operand: "context" });
        }
        let raw = self.raw_stream()?;
        // SAFETY:
        // - The stream is alive and of the context. It is borrowed: cudarc does not destroy it. The
        //   caller promises that cudarc does not use it after its end.
        // - Order with the work of this library: it is one stream, and `BridgeView` joins others.
        let stream = unsafe { context.wrap_borrowed_stream(raw.cast()) };
        Ok(Bridge { stream, brand: PhantomData })
    }
}

impl<'s> Bridge<'_, 's> {
    /// The stream of cudarc.
    #[inline]
    #[must_use]
    pub const fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// A view of memory of the stream that cudarc may read. Cost: two moves.
    #[inline]
    #[must_use]
    pub fn read<'v, T: Element>(&'v self, view: View<'v, T, Cuda<'s>>) -> BridgeView<'v, T> {
        self.argument(view.as_ptr(), view.len())
    }

    /// A view of memory of the stream that cudarc may read and write. Cost: two moves.
    #[inline]
    #[must_use]
    pub fn write<'v, T: Element>(&'v self, mut view: ViewMut<'v, T, Cuda<'s>>) -> BridgeViewMut<'v, T> {
        let view = self.argument(view.as_mut_ptr(), view.len());
        BridgeViewMut { view, borrow: PhantomData }
    }

    fn argument<T>(&self, ptr: *const T, len: usize) -> BridgeView<'_, T> {
        BridgeView { address: wide(ptr.expose_provenance()), len, stream: &self.stream, borrow: PhantomData }
    }
}

impl<T> Shared<T, Detached<CudaBackend>> {
    /// Memory of cudarc, as detached memory that streams of `device` may attach. It is usable once the
    /// stream of `slice` has passed what is enqueued there now, and what cudarc has recorded for
    /// `slice` on its other streams. `slice` is dropped once all streams have passed their last use.
    ///
    /// Cost: about ten driver calls, most of them for cudarc; three heap allocations. The host does not
    /// wait.
    ///
    /// # Errors
    /// [`Error::OtherDevice`] if `slice` is of another context, or the driver's error, with `slice`.
    ///
    /// # Safety
    /// - cudarc has recorded all work on `slice` that it made on other streams than its own, which it
    ///   does unless [`CudaContext::disable_event_tracking`] was called; or that work is over.
    /// - No capture is active on the stream of `slice`.
    /// - The end of `slice` is not adjacent to memory that is used in the same batch group.
    #[inline]
    #[expect(clippy::result_large_err, reason = "the slice goes back to its owner")]
    pub unsafe fn from_cudarc(device: &Device, mut slice: CudaSlice<T>) -> Result<Self, Rejected<CudaSlice<T>>>
    where
        T: Send + Sync + 'static,
    {
        if slice.context().cu_ctx().addr() != device.context.address() {
            return Err(Rejected::new(Error::OtherDevice { operand: "slice" }, slice));
        }
        let (len, stream) = (slice.len(), Arc::clone(slice.stream()));
        // cudarc makes the stream wait for the events of the latest reads and writes. It reports the
        // failure of such a wait by `check_err` alone.
        let before = stream.context().check_err();
        let (address, guard) = slice.device_ptr_mut(&stream);
        let waited = stream.context().check_err();
        let recorded = before.and(waited).and_then(|()| stream.record_event(None));
        drop(guard);
        let ready = match recorded {
            Ok(event) => event,
            Err(error) => return Err(Rejected::new(refused("cuEventRecord", error), slice)),
        };
        let place = usize::try_from(address).unwrap_or(0);
        let ptr = NonNull::new(ptr::with_exposed_provenance_mut(place)).unwrap_or(NonNull::dangling());
        // SAFETY:
        // - cudarc allocates aligned memory of `len` elements, which are initialised ("This is unsafe
        //   because the memory is unset", `CudaStream::alloc`), in one allocation of the context. The
        //   owner frees it in its drop.
        // - The owner is not used but for that, and no other work is still to run but what lies before
        //   the event: the caller promises it for work that cudarc has not recorded.
        // - The event is alive during the call. The caller promises that it is in no capture, and that
        //   the end of the memory is not adjacent to other memory.
        unsafe { Shared::from_raw_detached(device, ptr, len, Event::from_raw(ready.cu_event().cast()), slice) }
    }
}

/// The error of a call of cudarc.
fn refused(call: &'static str, error: cudarc::driver::DriverError) -> DriverError {
    #[expect(clippy::as_conversions, reason = "the only way to the number of an enum")]
    DriverError::new(call, Code(error.0 as u32))
}

/// An address of the device, as the driver has it.
fn wide(address: usize) -> CUdeviceptr {
    const { assert!(usize::BITS <= CUdeviceptr::BITS) };
    CUdeviceptr::try_from(address).unwrap_or(0)
}

impl<T> BridgeView<'_, T> {
    /// What cudarc gets, and what happens once it has enqueued its work on `stream`.
    fn on<'a>(&'a self, stream: &'a CudaStream) -> (CUdeviceptr, SyncOnDrop<'a>) {
        if stream == &**self.stream {
            return (self.address, SyncOnDrop::Record(None));
        }
        let is_captured = stream.capture_status() != Ok(CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE);
        if is_captured || stream.join(self.stream).is_err() {
            return (0, SyncOnDrop::Record(None));
        }
        (self.address, SyncOnDrop::Sync(Some(stream)))
    }
}

impl<T: Element> DeviceSlice<T> for BridgeView<'_, T> {
    #[inline]
    fn len(&self) -> usize {
        self.len
    }

    #[inline]
    fn stream(&self) -> &Arc<CudaStream> {
        self.stream
    }
}

// The memory is valid as long as this value is borrowed, and longer in the order of the bridge's
// stream. cudarc enqueues work on the stream that it passes, and then drops the guard:
// - On the bridge's stream the work is in order with that of this library.
// - Any other stream is behind it by `join`, and the guard waits for the work before the borrow ends.
impl<T: Element> DevicePtr<T> for BridgeView<'_, T> {
    #[inline]
    fn device_ptr<'a>(&'a self, stream: &'a CudaStream) -> (CUdeviceptr, SyncOnDrop<'a>) {
        self.on(stream)
    }
}

impl<T: Element> DeviceSlice<T> for BridgeViewMut<'_, T> {
    #[inline]
    fn len(&self) -> usize {
        self.view.len
    }

    #[inline]
    fn stream(&self) -> &Arc<CudaStream> {
        self.view.stream
    }
}

// As for `BridgeView`.
impl<T: Element> DevicePtr<T> for BridgeViewMut<'_, T> {
    #[inline]
    fn device_ptr<'a>(&'a self, stream: &'a CudaStream) -> (CUdeviceptr, SyncOnDrop<'a>) {
        self.view.on(stream)
    }
}

// As for `BridgeView`. The memory is borrowed exclusively.
impl<T: Element> DevicePtrMut<T> for BridgeViewMut<'_, T> {
    #[inline]
    fn device_ptr_mut<'a>(&'a mut self, stream: &'a CudaStream) -> (CUdeviceptr, SyncOnDrop<'a>) {
        self.view.on(stream)
    }
}

// SAFETY:
// - No device location is `AnyThread`: there are no such values. Written out so that the compiler
//   names this reason.
unsafe impl<'c, 's> Send for Bridge<'c, 's> where Cuda<'s>: AnyThread {}
// SAFETY:
// - As above.
unsafe impl<'c, 's> Sync for Bridge<'c, 's> where Cuda<'s>: AnyThread {}
// SAFETY:
// - As above.
unsafe impl<'v, T> Send for BridgeView<'v, T> where Cuda<'v>: AnyThread {}
// SAFETY:
// - As above.
unsafe impl<'v, T> Sync for BridgeView<'v, T> where Cuda<'v>: AnyThread {}
// SAFETY:
// - As above.
unsafe impl<'v, T> Send for BridgeViewMut<'v, T> where Cuda<'v>: AnyThread {}
// SAFETY:
// - As above.
unsafe impl<'v, T> Sync for BridgeViewMut<'v, T> where Cuda<'v>: AnyThread {}

impl fmt::Debug for Bridge<'_, '_> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bridge").finish_non_exhaustive()
    }
}
impl<T> fmt::Debug for BridgeView<'_, T> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BridgeView").field("len", &self.len).finish_non_exhaustive()
    }
}
impl<T> fmt::Debug for BridgeViewMut<'_, T> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BridgeViewMut").field("len", &self.view.len).finish_non_exhaustive()
    }
}

static_assertions::assert_not_impl_any!(Bridge<'static, 'static>: Send, Sync, Clone);
static_assertions::assert_not_impl_any!(BridgeView<'static, u32>: Send, Sync, Clone);
static_assertions::assert_not_impl_any!(BridgeViewMut<'static, u32>: Send, Sync, Clone);
