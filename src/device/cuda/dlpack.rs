//! Tensors of a GPU for other programs of the process. Feature `dlpack`.

#![allow(clippy::result_large_err, reason = "at the edges of a program, a refused tensor comes back")]

use core::{ffi::c_void, mem::ManuallyDrop, ptr::NonNull};

use tidelock_driver::{DriverError, RawDevice};

use super::{CudaBackend, Device, driver::Handle, event::Event};
use crate::{
    any::AnyShared,
    dlpack::{
        Exported,
        abi::{CUDA, DlDevice, READ_ONLY},
        exported,
    },
    error::{Error, Rejected},
    stream::Detached,
};

/// The stream on which another program uses a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerStream(NonNull<c_void>);

// SAFETY:
// - A number. What is done with the stream is promised by the caller of `export_tensor`.
unsafe impl Send for ConsumerStream {}

impl ConsumerStream {
    /// The legacy default stream, `CU_STREAM_LEGACY`.
    pub const LEGACY: ConsumerStream = ConsumerStream(NonNull::without_provenance(core::num::NonZero::<usize>::MIN));

    /// The stream of this `CUstream`. `None` for null, which DLPack leaves open, and for the default
    /// stream of a thread, which is another one on another thread.
    #[inline]
    #[must_use]
    pub fn from_raw(stream: *mut c_void) -> Option<Self> {
        NonNull::new(stream).filter(|stream| stream.addr().get() != PER_THREAD).map(ConsumerStream)
    }
}

/// `CU_STREAM_PER_THREAD`.
const PER_THREAD: usize = 2;

/// Hands a tensor of a GPU out. The other program's stream waits for the last use of the tensor here,
/// on the device; the host does not wait. The tensor is dropped behind what the stream is at when its
/// deleter is called, so that its memory outlives the other program's kernels. The deleter may be called
/// on any thread, and does not wait, except where recording an event is refused.
///
/// The stream is what `__dlpack__(stream=..)` gets: `None` there is [`LEGACY`](ConsumerStream::LEGACY),
/// and -1 is `None` here. The tensor is marked as read-only if it has other owners.
///
/// Cost: three calls of the driver and two heap allocations; five calls without a stream.
///
/// # Errors
/// The driver's error, with the tensor.
///
/// # Safety
/// - With a `stream`, it is a live `CUstream` of the tensor's device, or its legacy default stream, until
///   the deleter has returned. What uses the tensor is enqueued on it, or comes before what it has
///   enqueued when the deleter is called.
/// - Without, the program orders its uses itself: they begin once the stream that detached the tensor has
///   passed what was enqueued then, and have ended when the deleter is called.
/// - What is marked as read-only is not written.
///
/// ```no_run
/// use tidelock::{any::AnyShared, cuda::{self, ConsumerStream, CudaBackend}, stream::Detached};
///
/// /// A capsule for `__dlpack__(stream)` of Python.
/// fn capsule(
///     logits: &AnyShared<Detached<CudaBackend>>,
///     stream: Option<isize>,
/// ) -> Option<std::ptr::NonNull<tidelock::dlpack::abi::DlManagedTensorVersioned>> {
///     let stream = match stream {
///         None => Some(ConsumerStream::LEGACY),
///         Some(-1) => None,
///         Some(raw) => Some(ConsumerStream::from_raw(std::ptr::with_exposed_provenance_mut(raw as usize))?),
///     };
///     // SAFETY: the protocol promises the stream, and that its uses come before the deleter.
///     unsafe { cuda::export_tensor(logits.clone(), stream) }.ok().map(|exported| exported.into_raw())
/// }
/// ```
#[inline]
pub unsafe fn export_tensor(
    mut tensor: AnyShared<Detached<CudaBackend>>,
    stream: Option<ConsumerStream>,
) -> Result<Exported, Rejected<AnyShared<Detached<CudaBackend>>>> {
    let flags = if tensor.is_only_owner() { 0 } else { READ_ONLY };
    let (last_use, device) = tensor.memory().last_use();
    // SAFETY:
    // - The event of a record is of the device, and alive as long as its owner, the tensor.
    let event = match unsafe { device.event_behind(if stream.is_none() { Some(last_use) } else { None }) } {
        Ok(event) => event,
        Err(error) => return Err(Rejected::new(Error::from(error), tensor)),
    };
    if let Some(ConsumerStream(stream)) = stream {
        // SAFETY:
        // - The caller promises the stream; the events are alive, as above.
        let ordered = unsafe { wait(&device, stream, last_use) }
            // SAFETY:
            // - As above. The event is not recorded yet, and this function's alone.
            .and_then(|()| unsafe { record(&device, stream, event) });
        if let Err(error) = ordered {
            event.destroy(device.context);
            return Err(Rejected::new(Error::from(error), tensor));
        }
    }
    // SAFETY:
    // - The event stands for the last use here, and then for what the other program has enqueued, which
    //   `Owner` records behind it; without a stream the caller promises that it has ended.
    let tensor = unsafe { tensor.used_before(event) };
    let place = (tensor.view().as_ptr(), DlDevice { device_type: CUDA, device_id: ordinal(&device) });
    let (dtype, layout) = (tensor.dtype(), tensor.layout());
    let bytes = layout.cosize().saturating_mul(dtype.group_bytes());
    let owner = Owner { tensor: ManuallyDrop::new(tensor), device, stream, event, bytes };
    Ok(exported(owner, dtype, layout, place, flags))
}

/// What the deleter drops.
struct Owner {
    tensor: ManuallyDrop<AnyShared<Detached<CudaBackend>>>,
    device: Device,
    stream: Option<ConsumerStream>,
    /// Of the tensor's record.
    event: Event,
    bytes: usize,
}

impl Drop for Owner {
    fn drop(&mut self) {
        let is_behind = match self.stream {
            None => Ok(()),
            // SAFETY:
            // - The caller of `export_tensor` promised the stream until the deleter has returned. The
            //   event is of the device, and this owner's alone.
            Some(ConsumerStream(stream)) => match unsafe { record(&self.device, stream, self.event) } {
                Ok(()) => Ok(()),
                // SAFETY:
                // - As above.
                Err(_) => unsafe { synchronize(&self.device, stream) },
            },
        };
        if is_behind.is_err() {
            // The other program may use the memory for ever: leaked (F2).
            self.device.shared().count_leak(self.bytes);
            return;
        }
        // SAFETY:
        // - It is not used again.
        drop(unsafe { ManuallyDrop::take(&mut self.tensor) });
    }
}

/// # Safety
/// - Stream and event are of the device, and alive.
unsafe fn wait(device: &Device, stream: NonNull<c_void>, event: Event) -> Result<(), DriverError> {
    let (wait, stream): (_, Handle) = (device.context.driver.table.stream_wait_event, stream.as_ptr());
    // SAFETY:
    // - The caller promises both; the flags are 0, the default. The context is current, which the
    //   default stream needs.
    device.context.enter("cuStreamWaitEvent", || unsafe { wait(stream, event.0.raw(), 0) })
}

/// # Safety
/// - Stream and event are of the device, and alive.
unsafe fn record(device: &Device, stream: NonNull<c_void>, event: Event) -> Result<(), DriverError> {
    let (record, stream): (_, Handle) = (device.context.driver.table.event_record, stream.as_ptr());
    // SAFETY:
    // - As for `wait`.
    device.context.enter("cuEventRecord", || unsafe { record(event.0.raw(), stream) })
}

/// # Safety
/// - The stream is of the device, and alive.
unsafe fn synchronize(device: &Device, stream: NonNull<c_void>) -> Result<(), DriverError> {
    let (synchronize, stream): (_, Handle) = (device.context.driver.table.stream_synchronize, stream.as_ptr());
    // SAFETY:
    // - The caller promises the stream.
    device.context.enter("cuStreamSynchronize", || unsafe { synchronize(stream) })
}

fn ordinal(device: &Device) -> i32 {
    i32::try_from(device.ordinal()).unwrap_or(0)
}
