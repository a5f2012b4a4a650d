//! What belongs to no stream, behind events: frees of memory, and events.

use core::{ffi::c_int, ptr::NonNull};

use tidelock_driver::DriverError;

use super::{
    context::Context,
    event::{DISABLE_TIMING, Event},
    stream_calls::StreamCalls,
};
use crate::sync::{Mutex, lock};

/// What frees memory of a context behind events: a stream that is created when it is first needed,
/// and kept until the last handle of the context is dropped.
#[derive(Debug)]
pub(super) struct FreeStream {
    context: Context,
    kept: Mutex<Option<Kept>>,
}

#[derive(Debug)]
struct Kept {
    calls: StreamCalls,
    /// The event behind which the stream freed last.
    behind: Option<Event>,
}

impl FreeStream {
    pub(super) const fn new(context: Context) -> FreeStream {
        FreeStream { context, kept: Mutex::new(None) }
    }

    /// Frees `memory` of `cuMemAllocFromPoolAsync` behind `events`. Blocks for nothing on the
    /// device.
    ///
    /// No free is held back by the event of another: if the kept stream still waits for one, a
    /// stream that is destroyed afterwards takes its place.
    ///
    /// Cost: a driver call for the free and for each event, and a query if the last free was behind
    /// another event. A new stream costs two more, and about 10 us (H200, 2026-12-01).
    ///
    /// # Errors
    /// The driver's error. Nothing is freed then.
    ///
    /// # Safety
    /// - The memory comes from a pool of the context, and was not freed before. All work that uses
    ///   it lies before the latest record of one of `events`, or is over.
    /// - Each event is alive and of the context.
    pub(super) unsafe fn free(&self, events: &[Event], memory: NonNull<u8>) -> Result<(), DriverError> {
        let behind = events.last().copied();
        let mut kept = lock(&self.kept);
        if kept.as_ref().is_some_and(|kept| kept.holds_back(behind)) {
            drop(kept);
            let mut calls = StreamCalls::create(self.context, PRIORITY, None)?;
            // SAFETY:
            // - The caller keeps the same contract.
            let answer = unsafe { free_on(&calls, events, memory) };
            // The waits and the free run later, also after the stream is destroyed.
            calls.destroy();
            return answer;
        }
        let mut calls = match kept.take() {
            Some(kept) => kept.calls,
            None => StreamCalls::create(self.context, PRIORITY, None)?,
        };
        // SAFETY:
        // - The caller keeps the same contract.
        let answer = unsafe { free_on(&calls, events, memory) };
        match answer {
            Ok(()) => *kept = Some(Kept { calls, behind }),
            // A stream that refuses is not used again.
            Err(_) => calls.destroy(),
        }
        answer
    }
}

impl Kept {
    /// Whether the stream waits for another event than `behind`.
    fn holds_back(&self, behind: Option<Event>) -> bool {
        // A stream that refuses the query refuses what follows, too.
        self.behind != behind && !self.calls.is_idle().unwrap_or(true)
    }
}

impl Drop for FreeStream {
    fn drop(&mut self) {
        if let Some(mut kept) = lock(&self.kept).take() {
            // What was enqueued runs later, also after the stream is destroyed.
            kept.calls.destroy();
        }
    }
}

/// Frees `memory` on `stream`, behind `events`.
///
/// # Safety
/// - As for [`FreeStream::free`]; the stream is of the context.
unsafe fn free_on(stream: &StreamCalls, events: &[Event], memory: NonNull<u8>) -> Result<(), DriverError> {
    events.iter().try_for_each(|&event| {
        // SAFETY:
        // - The caller promises that the event is alive and of the context.
        unsafe { stream.wait(event) }
    })?;
    let free = stream.context.driver.table.mem_free_async;
    // SAFETY:
    // - The caller promises that the memory comes from a pool, and that work on it lies before the
    //   events, behind which this stream runs now: "the free operation is performed in stream
    //   order" (CUDA driver manual 13.0, stream ordered allocator).
    stream.on_stream("cuMemFreeAsync", || unsafe { free(memory.as_ptr(), stream.raw()) })
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
