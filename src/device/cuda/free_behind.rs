//! What belongs to no stream, behind events: frees of memory, and events.

use core::{ffi::c_int, ptr::NonNull};

use tidelock_driver::DriverError;

use super::{
    context::Context,
    event::{DISABLE_TIMING, Event},
    stream_calls::StreamCalls,
};

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

/// A new event behind the point that `event` stands for now, recorded on a stream of its own. Blocks
/// for nothing on the device.
///
/// Cost: five driver calls, and what it takes to enter the context.
///
/// # Errors
/// The driver's error.
///
/// # Safety
/// - The event is alive, and its latest record is not part of a capture.
pub(super) unsafe fn event_behind(context: Context, event: Event) -> Result<Event, DriverError> {
    let behind = Event::create(context, DISABLE_TIMING)?;
    let answer = StreamCalls::create(context, PRIORITY, None).and_then(|mut stream| {
        // SAFETY:
        // - The caller promises that the event is alive. It may be one of another context: "event may
        //   be from a different context or device than stream" (CUDA driver manual 13.0,
        //   cuStreamWaitEvent).
        let answer = unsafe { stream.wait(event) }.and_then(|()| stream.record(behind));
        // The wait and the record run later, also after the stream is destroyed.
        stream.destroy();
        answer
    });
    answer.map(|()| behind).inspect_err(|_| behind.destroy(context))
}

/// The default priority. Neither is work of the device.
const PRIORITY: c_int = 0;
