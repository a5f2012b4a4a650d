//! Events of a CUDA context.

use core::{
    ffi::{c_uint, c_void},
    ptr::{self, NonNull},
};

use tidelock_driver::{Code, DriverError};

use super::{context::Context, handle::DriverObject, stream_calls::passed};

/// A `CUevent`: a plain handle, which says nothing about whether the event is alive. Dropping it does
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event(pub(super) DriverObject);

impl Event {
    /// The handle of an event that was made elsewhere; `None` if it is null.
    ///
    /// For [`Shared::from_raw_detached`](crate::stream::Shared::from_raw_detached).
    #[inline]
    #[must_use]
    pub const fn from_raw(event: *mut c_void) -> Option<Event> {
        match NonNull::new(event) {
            Some(event) => Some(Event(DriverObject(event))),
            None => None,
        }
    }

    /// Creates an event of `context` with `flags` for each of `places`, up to the first refusal.
    pub(super) fn create_each(
        context: Context,
        flags: c_uint,
        places: &mut [Option<Event>],
    ) -> Result<(), DriverError> {
        let create = context.driver.table.event_create;
        // All of them in one visit to the context: nothing else runs on this thread in between.
        context.enter("cuEventCreate", || {
            for place in places {
                let mut event = ptr::null_mut();
                // SAFETY:
                // - `event` is valid for a write.
                let answer = unsafe { create(&mut event, flags) };
                if answer != 0 {
                    return answer;
                }
                *place = Event::from_raw(event);
            }
            0
        })
    }

    /// Creates an event of `context` with `flags`.
    pub(super) fn create(context: Context, flags: c_uint) -> Result<Event, DriverError> {
        let mut place = [None];
        Event::create_each(context, flags, &mut place)?;
        let [event] = place;
        event.ok_or(DriverError::new("cuEventCreate", Code::UNKNOWN))
    }

    /// Holds the calling thread until the device has passed the latest record of the event, which
    /// is one of `context`.
    #[inline]
    pub(super) fn observe(self, context: Context) -> Result<(), DriverError> {
        let wait = context.driver.table.event_synchronize;
        // SAFETY:
        // - The event is alive.
        context.on_stream("cuEventSynchronize", || unsafe { wait(self.0.raw()) })
    }

    /// Whether the device has passed the latest record of the event, which is one of `context`.
    #[inline]
    pub(super) fn query(self, context: Context) -> Result<bool, DriverError> {
        let query = context.driver.table.event_query;
        // SAFETY:
        // - The event is alive.
        passed(context.on_stream("cuEventQuery", || unsafe { query(self.0.raw()) }))
    }

    /// Destroys the event, which is one of `context`. Errors are ignored.
    #[inline]
    pub(super) fn destroy(self, context: Context) {
        let destroy = context.driver.table.event_destroy;
        // SAFETY:
        // - The event is alive and the caller gives it up; one that the device has not reached yet
        //   is kept until then by the driver (CUDA driver manual 13.0, cuEventDestroy).
        let _ = context.on_stream("cuEventDestroy", || unsafe { destroy(self.0.raw()) });
    }
}

/// `CU_EVENT_DEFAULT`: an event that takes the time.
pub(super) const DEFAULT: c_uint = 0;
/// `CU_EVENT_DISABLE_TIMING`.
pub(super) const DISABLE_TIMING: c_uint = 2;

#[cfg(any(test, tidelock_declarations))]
mod declared {
    use super::*;
    use crate::device::cuda::declarations::same_number;

    same_number!(DEFAULT, CUevent_flags::CU_EVENT_DEFAULT);
    same_number!(DISABLE_TIMING, CUevent_flags::CU_EVENT_DISABLE_TIMING);
}
