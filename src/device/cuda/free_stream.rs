//! The stream of a device that frees memory of no stream, behind the events of its last uses.

use core::{ffi::c_int, ptr::NonNull};

use tidelock_driver::DriverError;

use super::{context::Context, event::Event, stream_calls::StreamCalls};
use crate::sync::{Mutex, lock};

/// A stream of a context on which nothing runs but waits for events and frees. It is created at the
/// first free.
#[derive(Debug, Default)]
pub(super) struct FreeStream {
    stream: Mutex<Option<StreamCalls>>,
}

impl FreeStream {
    /// Frees `memory` of `cuMemAllocFromPoolAsync` behind `events`. Blocks for nothing on the
    /// device.
    ///
    /// Cost: a driver call for each event, and one more. The first free creates the stream.
    ///
    /// # Errors
    /// The driver's error. Nothing is freed then.
    ///
    /// # Safety
    /// - The memory comes from a pool of `context`, and was not freed before. All work that uses it
    ///   lies before the latest record of one of `events`, or is over.
    /// - Each event is alive and of `context`.
    pub(super) unsafe fn free(
        &self,
        context: Context,
        events: &[Event],
        memory: NonNull<u8>,
    ) -> Result<(), DriverError> {
        let mut stream = lock(&self.stream);
        let calls = match &mut *stream {
            Some(calls) => calls,
            place => place.insert(StreamCalls::create(context, PRIORITY, None)?),
        };
        for &event in events {
            // SAFETY:
            // - The caller promises that the event is alive and of the context.
            unsafe { calls.wait(event) }?;
        }
        let free = context.driver.table.mem_free_async;
        // SAFETY:
        // - The caller promises that the memory comes from a pool, and that work on it lies before
        //   the events, behind which this stream runs now: "the free operation is performed in
        //   stream order" (CUDA driver manual 13.0, stream ordered allocator).
        context.on_stream("cuMemFreeAsync", || unsafe { free(memory.as_ptr(), calls.raw()) })
    }

    /// Destroys the stream, if there is one. Work that has not run yet runs later.
    pub(super) fn close(&mut self) {
        if let Some(mut calls) = lock(&self.stream).take() {
            calls.destroy();
        }
    }
}

/// The default priority. A free is no work of the device.
const PRIORITY: c_int = 0;
