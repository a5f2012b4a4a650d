//! What belongs to no stream, behind events: frees of memory, and events.

use core::{ffi::c_int, ptr::NonNull};

use tidelock_driver::DriverError;

use super::{
    context::Context,
    event::{DISABLE_TIMING, Event},
    stream_calls::StreamCalls,
};
use crate::sync::{Mutex, lock};

/// The streams of a context that free memory behind events. Each is created when it is needed, and
/// kept until the last handle of the context is dropped.
#[derive(Debug)]
pub(super) struct FreeStreams {
    context: Context,
    kept: Mutex<[Option<FreeStream>; MOST]>,
}

#[derive(Debug)]
struct FreeStream {
    calls: StreamCalls,
    /// The event behind which the stream freed last.
    behind: Option<Event>,
}

/// The most streams that are kept. If all of them wait, each for another event, a free takes a
/// stream that is destroyed after it.
const MOST: usize = 4;

impl FreeStreams {
    pub(super) const fn new(context: Context) -> FreeStreams {
        FreeStreams { context, kept: Mutex::new([const { None }; MOST]) }
    }

    /// Frees `memory` of `cuMemAllocFromPoolAsync` behind `events`. Blocks for nothing on the
    /// device.
    ///
    /// The stream that frees waits for the same event already, or has nothing to do: no free is held
    /// back by the event of another.
    ///
    /// Cost: a driver call for the free and for each event, and a query for each kept stream that
    /// waits for another event. A new stream is one call more.
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
        let Some(place) = kept.iter_mut().find(|place| is_free(place, behind)) else {
            drop(kept);
            let mut stream = StreamCalls::create(self.context, PRIORITY, None)?;
            // SAFETY:
            // - The caller keeps the same contract.
            let answer = unsafe { free_on(&stream, events, memory) };
            // The waits and the free run later, also after the stream is destroyed.
            stream.destroy();
            return answer;
        };
        let mut stream = match place.take() {
            Some(stream) => stream.calls,
            None => StreamCalls::create(self.context, PRIORITY, None)?,
        };
        // SAFETY:
        // - The caller keeps the same contract.
        let answer = unsafe { free_on(&stream, events, memory) };
        match answer {
            Ok(()) => *place = Some(FreeStream { calls: stream, behind }),
            // A stream that refuses is not used again.
            Err(_) => stream.destroy(),
        }
        answer
    }
}

impl Drop for FreeStreams {
    fn drop(&mut self) {
        for stream in lock(&self.kept).iter_mut().filter_map(Option::take) {
            let mut calls = stream.calls;
            // What was enqueued runs later, also after the stream is destroyed.
            calls.destroy();
        }
    }
}

/// Whether no other event than `behind` holds back what is enqueued on the stream at `place`, or
/// there is no stream there.
fn is_free(place: &Option<FreeStream>, behind: Option<Event>) -> bool {
    let Some(stream) = place else { return true };
    // A stream that refuses the query refuses what follows, too.
    stream.behind == behind || stream.calls.is_idle().unwrap_or(true)
}

/// Frees `memory` on `stream`, behind `events`.
///
/// # Safety
/// - As for [`FreeStreams::free`]; the stream is of the context.
unsafe fn free_on(stream: &StreamCalls, events: &[Event], memory: NonNull<u8>) -> Result<(), DriverError> {
    events.iter().try_for_each(|&event| {
        // SAFETY:
        // - The caller promises that the event is alive and of the context.
        unsafe { stream.wait(event) }
    })?;
    let free = stream.context.driver.table.mem_free_async;
    // SAFETY:
    // - The caller promises that the memory comes from a pool, and that work on it lies before the
    //   events, behind which this stream runs now: "the free operation is performed in stream order"
    //   (CUDA driver manual 13.0, stream ordered allocator).
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
