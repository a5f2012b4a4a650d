//! Events of a CUDA context.

use tidelock_driver::DriverError;

use super::{context::Context, handle::DriverObject, stream_calls::passed};

/// A `CUevent`. A plain handle: [`destroy`](Event::destroy) alone destroys it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event(pub(super) DriverObject);

impl Event {
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
