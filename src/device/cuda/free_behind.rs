//! Frees of memory that belongs to no stream, behind the events of its last uses.

use core::{ffi::c_int, ptr::NonNull};

use tidelock_driver::DriverError;

use super::{context::Context, event::Event, stream_calls::StreamCalls};

/// Frees `memory` of `cuMemAllocFromPoolAsync` behind `events`, on a stream of its own. Blocks for
/// nothing on the device.
///
/// Cost: a driver call for each event, and three more. The stream is not kept, because a context may
/// live as long as the process.
///
/// # Errors
/// The driver's error. Nothing is freed then.
///
/// # Safety
/// - The memory comes from a pool of `context`, and was not freed before. All work that uses it lies
///   before the latest record of one of `events`, or is over.
/// - Each event is alive and of `context`.
pub(super) unsafe fn free_behind(context: Context, events: &[Event], memory: NonNull<u8>) -> Result<(), DriverError> {
    let mut stream = StreamCalls::create(context, PRIORITY, None)?;
    let waits = events.iter().try_for_each(|&event| {
        // SAFETY:
        // - The caller promises that the event is alive and of the context.
        unsafe { stream.wait(event) }
    });
    let free = context.driver.table.mem_free_async;
    let answer = waits.and_then(|()| {
        // SAFETY:
        // - The caller promises that the memory comes from a pool, and that work on it lies before
        //   the events, behind which this stream runs now: "the free operation is performed in
        //   stream order" (CUDA driver manual 13.0, stream ordered allocator).
        context.on_stream("cuMemFreeAsync", || unsafe { free(memory.as_ptr(), stream.raw()) })
    });
    // The waits and the free run later, also after the stream is destroyed.
    stream.destroy();
    answer
}

/// The default priority. A free is no work of the device.
const PRIORITY: c_int = 0;
