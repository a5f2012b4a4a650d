//! A CUDA device, as memory that outlives its streams uses it.

use core::ptr::NonNull;

use super::{Device, event::Event};
use crate::device::{Remote, Spares, code::DriverError, sealed::Sealed};

impl Sealed for Device {}

// SAFETY:
// - A device keeps its context, and memory and events belong to the context.
// - As for the queue; `doom` sets a flag of the context that nothing clears.
unsafe impl Remote for Device {
    type Event = Event;

    #[inline]
    fn device_id(&self) -> usize {
        self.context.address()
    }

    #[inline]
    fn observe(&self, event: Event) -> Result<(), DriverError> {
        event.observe(self.context)
    }

    #[inline]
    fn destroy_event(&self, event: Event) {
        event.destroy(self.context);
    }

    #[inline]
    fn spares(&self) -> &Spares<Event> {
        self.shared.spares()
    }

    #[inline]
    unsafe fn free(&self, ptr: NonNull<u8>) -> Result<(), DriverError> {
        let free = self.context.driver.table.mem_free;
        // SAFETY:
        // - The caller promises that `ptr` comes from `alloc` of a queue, which `cuMemFree` takes too, and that no work uses
        //   it: "Callers must ensure that all accesses to these pointer have completed before invoking cuMemFree" (CUDA
        //   driver manual 13.0).
        self.context.enter("cuMemFree", || unsafe { free(ptr.as_ptr()) })
    }

    #[inline]
    fn doom(&self) {
        self.shared.doom();
    }

    #[inline]
    fn is_doomed(&self) -> bool {
        self.shared.is_doomed()
    }
}
