//! The simulated backend and its devices, as the driver contract asks for them.

use core::{num::NonZero, ptr::NonNull};

use tidelock_driver::{Backend, DeviceState, DriverError, HostAccess, OpenOptions, PinnedPool, RawDevice};

use tidelock_simulator::{Call, EventId, Gpu, Use};

use super::{Device, SimBackend, SimStream, stream::failed};

// SAFETY:
// - P1, P2: `mem_host_alloc` gives page-aligned memory that is in no other range of the table,
//   until `mem_host_free`; the page-locked memory of the process is known to every GPU.
// - P3: a refused `mem_host_free` leaves the memory locked.
// - P4: the notes reach the race detector only.
// - P5: the pool is one static, of this type only.
unsafe impl Backend for SimBackend {
    type Device = Device;
    type Stream = SimStream;
    type Event = EventId;

    const PINNED: &'static PinnedPool<Self> = {
        static POOL: PinnedPool<SimBackend> = PinnedPool::new();
        &POOL
    };

    #[inline]
    fn pin(bytes: NonZero<usize>) -> Result<NonNull<u8>, DriverError> {
        tidelock_simulator::pin(bytes.get())
    }

    #[inline]
    unsafe fn unpin(ptr: NonNull<u8>) -> Result<(), DriverError> {
        // SAFETY:
        // - The caller keeps the contract of `Backend::unpin`, which is that of the simulator's
        //   `unpin`.
        unsafe { tidelock_simulator::unpin(ptr) }
    }

    #[inline]
    unsafe fn host_touches(access: HostAccess) {
        if tidelock_simulator::is_watching() {
            let HostAccess { ptr, bytes, writes, what, .. } = access;
            let touched = if writes { Use::write(ptr, bytes) } else { Use::read(ptr, bytes) };
            // SAFETY:
            // - The calling thread touches the memory here: the caller keeps the contract of
            //   `Backend::host_touches`.
            unsafe { tidelock_simulator::host_touches(touched, what) }
        }
    }
}

// SAFETY:
// - D1, D7: the state lies in the GPU, which lives as long as a handle of it.
// - D2, D3, D5: calls of the GPU may be made by any thread, and every stream is a thread of its
//   own.
// - D4: `mem_free` takes memory of any pool of the gpu.
// - D6: the GPU frees the memory when the tickets of the events are passed, and keeps it if it is
//   broken.
// - D8: any thread may query an event of the GPU.
// - D9: work runs on the threads of streams, and `is_inside_a_kernel` is true on all of them.
// - D10: the GPU creates an event with the same ticket.
unsafe impl RawDevice for Device {
    type Backend = SimBackend;

    #[inline]
    fn shared(&self) -> &DeviceState {
        // SAFETY:
        // - The typed layer alone uses the state, through `RawDevice`.
        unsafe { self.gpu().device_state() }
    }

    #[inline]
    fn ordinal(&self) -> usize {
        self.gpu().ordinal()
    }

    #[inline]
    fn open(&self, options: &OpenOptions) -> Result<SimStream, DriverError> {
        SimStream::open(self.clone(), options)
    }

    #[inline]
    fn memory_info(&self) -> Result<(usize, usize), DriverError> {
        self.gpu().mem_get_info().map_err(failed(Call::MemGetInfo))
    }

    #[inline]
    unsafe fn wait_event(&self, event: EventId) -> Result<(), DriverError> {
        self.gpu().event_synchronize(event).map_err(failed(Call::EventSynchronize))
    }

    #[inline]
    unsafe fn destroy_event(&self, event: EventId) {
        // SAFETY:
        // - The caller owns the event, and does not use it any more.
        if unsafe { self.gpu().destroys_event(event) } {
            return;
        }
        // Errors are ignored: a refused event stays with the GPU, which reports it.
        let _ = self.gpu().event_destroy(event);
    }

    #[inline]
    unsafe fn free(&self, ptr: NonNull<u8>) -> Result<(), DriverError> {
        // SAFETY:
        // - The caller promises that no work uses the memory.
        let answer = unsafe { self.gpu().mem_free(ptr.as_ptr()) };
        answer.map_err(failed(Call::MemFree))
    }

    #[inline]
    fn executes_work() -> bool {
        Gpu::is_inside_a_kernel()
    }

    #[inline]
    unsafe fn free_behind(&self, events: &[EventId], memory: NonNull<u8>) -> Result<(), DriverError> {
        // SAFETY:
        // - The caller keeps the same contract.
        unsafe { self.gpu().free_behind(events, memory) }
        Ok(())
    }

    #[inline]
    unsafe fn has_passed(&self, event: EventId) -> Result<bool, DriverError> {
        self.gpu().event_query(event).map_err(failed(Call::EventQuery))
    }

    #[inline]
    unsafe fn event_behind(&self, event: Option<EventId>) -> Result<EventId, DriverError> {
        let created = match event {
            Some(event) => self.gpu().event_behind(event),
            None => self.gpu().event_create(),
        };
        created.map_err(failed(Call::EventCreate))
    }
}
