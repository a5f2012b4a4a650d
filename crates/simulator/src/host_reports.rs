//! What the host reports beside the calls of the driver: its own accesses, the ends of loans,
//! streams that were given up.
//!
//! These are no driver calls: they are not counted, not logged, and never fail. The race detector
//! and the frees of the device rely on what they say. A false report hides races of other programs
//! in the process, or frees memory that a stream still uses, so that each is an `unsafe fn`. The
//! typed layer of `tidelock` is the usual caller.

use core::ptr::NonNull;

use tidelock_driver::DeviceState;

use super::{
    gpu::Gpu,
    orphans::Orphan,
    race_detector,
    shared::is_inside_a_kernel,
    slots::{EventId, StreamId},
    sync::lock,
    uses::Use,
};

/// Reports that the calling thread touches host memory that a stream may have been using; `what`
/// names the access.
///
/// Call it where [`is_watching`](super::is_watching) answers `true`. Later accesses count as
/// ordered behind this one.
///
/// # Safety
/// - The calling thread makes the access here, or the memory belongs to no buffer of the typed
///   layer.
#[inline]
pub unsafe fn host_touches(touched: Use, what: &'static str) {
    race_detector::host_touches(touched, what);
}

impl Gpu {
    /// Reports that the host touches memory that a stream may be using.
    ///
    /// The typed layer reports its accesses by itself. A program that calls the driver by hand
    /// reports its own here, where they happen, if they are to be checked. Cost: a load and a
    /// branch if no device of the process is watched.
    ///
    /// Later accesses count as ordered behind this one: a report of an access that does not happen
    /// hides races of the programs that rely on the detector, and makes it report others that are
    /// none.
    ///
    /// # Safety
    /// - As for [`host_touches`].
    #[inline]
    pub unsafe fn host_touches(&self, touched: Use) {
        if race_detector::is_watching() {
            race_detector::host_touches(touched, "the host's own access");
        }
    }

    /// Reports that the calling thread takes back the host memory that it lent to `stream`.
    ///
    /// # Safety
    /// - The calling thread has waited for all work on `stream` that uses lent memory, and no work
    ///   is left on it.
    #[doc(hidden)]
    #[inline]
    pub unsafe fn loans_end(&self, stream: StreamId) {
        if let Ok(stream) = self.shared().stream(stream) {
            self.shared().loans_end(stream.timeline);
        }
    }

    /// The calling thread makes no more calls on `stream`. What it has waited for there counts as
    /// waited for by the thread that [enters](Gpu::stream_entered) it next.
    ///
    /// # Safety
    /// - What the calling thread did so far happens before whatever the next thread that enters the
    ///   stream does.
    #[doc(hidden)]
    #[inline]
    pub unsafe fn stream_left(&self, stream: StreamId) {
        if race_detector::is_watching()
            && let Ok(stream) = self.shared().stream(stream)
        {
            self.shared().stream_left(stream.timeline);
        }
    }

    /// The calling thread makes the calls on `stream` from now on.
    ///
    /// # Safety
    /// - As for [`stream_left`](Gpu::stream_left), of which this is the other end.
    #[doc(hidden)]
    #[inline]
    pub unsafe fn stream_entered(&self, stream: StreamId) {
        if race_detector::is_watching()
            && let Ok(stream) = self.shared().stream(stream)
        {
            self.shared().stream_entered(stream.timeline);
        }
    }

    /// Whether the calling thread is that of a stream, of any simulated device: it runs a kernel,
    /// or drops one.
    #[doc(hidden)]
    #[inline]
    #[must_use]
    pub fn is_inside_a_kernel() -> bool {
        is_inside_a_kernel()
    }

    /// What the typed layer keeps for the device: values of its own, and the count of leaked bytes.
    ///
    /// # Safety
    /// - The caller is the typed layer, or uses nothing of it.
    #[doc(hidden)]
    #[inline]
    #[must_use]
    pub unsafe fn device_state(&self) -> &DeviceState {
        &self.shared().device_state
    }

    /// Frees memory once the points that `events` stand for have been passed: at once, or on the
    /// thread of the stream that passes the last one. No call of the driver. The memory stays if the
    /// device is broken.
    ///
    /// # Safety
    /// - `memory` comes from this device and is not used any more, except by work that lies before
    ///   the latest record of one of `events`.
    #[doc(hidden)]
    #[inline]
    pub unsafe fn free_behind(&self, events: &[EventId], memory: NonNull<u8>) {
        let shared = self.shared();
        // Err: there is no such event, and nothing to wait for.
        let records = events.iter().filter_map(|&event| shared.recorded(event).ok().flatten()).collect();
        let dropped_by = shared.released_by_thread();
        shared.orphans.add(Orphan { records, dropped_by, start: memory.addr().get() });
        shared.free_orphans();
    }

    /// Destroys an event if the calling thread runs a kernel, where calls are refused; answers
    /// whether it did. No call of the driver.
    ///
    /// # Safety
    /// - The caller owns the event, and does not use it any more.
    #[doc(hidden)]
    #[inline]
    #[must_use]
    pub unsafe fn destroys_event(&self, event: EventId) -> bool {
        let is_inside = is_inside_a_kernel();
        if is_inside {
            drop(lock(&self.shared().events).remove(event.0));
        }
        is_inside
    }
}
