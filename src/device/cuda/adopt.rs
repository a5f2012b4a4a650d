//! Streams that were made elsewhere, as lanes.

use core::{cell::Cell, ffi::c_void, ptr};

use tidelock_driver::{Code, DriverError};

use super::{CudaBackend, CudaStream, Device, handle::DriverObject};
use crate::{
    error::{Error, Result},
    stream::{Lane, StreamOptions},
};

impl Device {
    /// A lane on a stream that was made elsewhere, such as PyTorch's or cudarc's, with the default
    /// options. The lane does not destroy the stream.
    ///
    /// The work of visits is in order with what others enqueue on the stream. Because the library does
    /// not see that work, no hand-over of the lane shares a record, and none leaves out a wait. The
    /// drop of the lane waits for everything on the stream.
    ///
    /// Cost: two driver calls, and those of [`lane`](Device::lane) but for the creation of a stream.
    ///
    /// # Errors
    /// [`Code::NOT_SUPPORTED`] for the default streams (null, `CU_STREAM_LEGACY` and
    /// `CU_STREAM_PER_THREAD`): PyTorch has others in `torch.cuda.Stream()`.
    /// [`Error::OtherDevice`] if the stream is of another context. [`Code::STREAM_CAPTURED`] if it is
    /// being captured. Otherwise the driver's error.
    ///
    /// # Safety
    /// - `stream` is a `CUstream` that is not destroyed before the lane has been dropped. A drop inside
    ///   a kernel of a simulated device may end later.
    /// - The stream is not captured while a visit of the lane runs, nor when the lane is dropped.
    /// - What others enqueue on the stream uses no memory that belongs to the lane or to a visit,
    ///   unless it meets the conditions of [`launch_kernel`](crate::Ctx::launch_kernel).
    ///
    /// ```no_run
    /// use tidelock::cuda;
    ///
    /// fn with_theirs(device: &cuda::Device, theirs: *mut core::ffi::c_void) -> tidelock::Result<()> {
    ///     // SAFETY: `theirs` outlives the lane, and nothing captures it.
    ///     let mut lane = unsafe { device.adopt(theirs) }?;
    ///     lane.enter(|stream, _env| {
    ///         let ctx = stream.ctx().with_pool();
    ///         drop(ctx.zeros::<f32>(1024)?);
    ///         Ok(())
    ///     })?
    /// }
    /// ```
    #[inline]
    pub unsafe fn adopt(&self, stream: *mut c_void) -> Result<Lane<CudaBackend>> {
        // SAFETY:
        // - The caller keeps the same contract.
        unsafe { self.adopt_with(stream, &StreamOptions::default()) }
    }

    /// As [`adopt`](Device::adopt), with `options`. The stream keeps its priority.
    ///
    /// # Errors
    /// As for [`adopt`](Device::adopt).
    ///
    /// # Safety
    /// As for [`adopt`](Device::adopt).
    #[inline]
    pub unsafe fn adopt_with(&self, stream: *mut c_void, options: &StreamOptions) -> Result<Lane<CudaBackend>> {
        // SAFETY:
        // - The caller promises that the stream is alive, unless it is the handle of a default stream.
        let stream = unsafe { self.checked(stream) }?;
        // SAFETY:
        // - `checked` has found a stream of this context, and the caller promises that it lives as long
        //   as the lane.
        let raw = unsafe { CudaStream::adopted(self.clone(), stream, &options.open()) }?;
        Ok(Lane::new(raw, options)?.exposed())
    }

    /// A stream that a lane may be on.
    ///
    /// # Safety
    /// - `stream` is a live stream, or the handle of a default stream.
    unsafe fn checked(&self, stream: *mut c_void) -> Result<DriverObject> {
        let refused = |code| Error::from(DriverError::new("adopting a stream", code));
        if DEFAULT_STREAMS.contains(&stream.addr()) {
            return Err(refused(Code::NOT_SUPPORTED));
        }
        let stream = ptr::NonNull::new(stream).map(DriverObject).ok_or(refused(Code::NOT_SUPPORTED))?;
        let table = &self.context.driver.table;
        let context = Cell::new(ptr::null_mut());
        let get_context = || {
            // SAFETY:
            // - The caller promises that the stream is alive. `context` is valid for a write.
            unsafe { (table.stream_get_ctx)(stream.raw(), context.as_ptr()) }
        };
        self.context.on_stream("cuStreamGetCtx", get_context)?;
        if context.get().addr() != self.context.address() {
            return Err(Error::OtherDevice { operand: "stream" });
        }
        let status = Cell::new(0);
        let get_status = || {
            // SAFETY:
            // - As above, with `status`.
            unsafe { (table.stream_is_capturing)(stream.raw(), status.as_ptr()) }
        };
        self.context.on_stream("cuStreamIsCapturing", get_status)?;
        if status.get() == NOT_CAPTURED { Ok(stream) } else { Err(refused(Code::STREAM_CAPTURED)) }
    }
}

/// Null, `CU_STREAM_LEGACY` and `CU_STREAM_PER_THREAD`.
const DEFAULT_STREAMS: [usize; 3] = [0, 1, 2];
/// `CU_STREAM_CAPTURE_STATUS_NONE`.
const NOT_CAPTURED: core::ffi::c_uint = 0;

#[cfg(any(test, tidelock_declarations))]
mod declared {
    use super::*;
    use crate::device::cuda::declarations::same_number;

    same_number!(NOT_CAPTURED, CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE);
}
