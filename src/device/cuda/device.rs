//! The driver contract for the CUDA backend and its devices.

use core::{num::NonZero, ptr, ptr::NonNull};

use tidelock_driver::{Backend, Code, DeviceState, DriverError, OpenOptions, PinnedPool, RawDevice};

use super::{
    CudaBackend, Device, PINNING, PORTABLE,
    context::given,
    driver::same_process,
    event::{DISABLE_TIMING, Event},
    free_behind::event_behind,
    stream::CudaStream,
};

// SAFETY:
// - P1, P2: `cuMemHostAlloc` with the portable flag gives memory that all contexts can use. It is
//   exclusively the caller's until it is freed, and starts at a page ("allocates … host memory that
//   is page-locked", CUDA driver manual 13.0).
// - P3: a refused `cuMemFreeHost` leaves the memory locked.
// - P4: there are no notes.
// - P5: the pool is one static, of this type only.
unsafe impl Backend for CudaBackend {
    type Device = Device;
    type Stream = CudaStream;
    type Event = Event;

    const PINNED: &'static PinnedPool<Self> = {
        static POOL: PinnedPool<CudaBackend> = PinnedPool::new();
        &POOL
    };

    #[inline]
    fn pin(bytes: NonZero<usize>) -> Result<NonNull<u8>, DriverError> {
        let context = *PINNING.get().ok_or(DriverError::new("cuMemHostAlloc", Code::NOT_INITIALIZED))?;
        same_process()?;
        let alloc = context.driver.table.mem_host_alloc;
        let mut memory = ptr::null_mut();
        // SAFETY:
        // - `memory` is valid for a write.
        context.enter("cuMemHostAlloc", || unsafe { alloc(&mut memory, bytes.get(), PORTABLE) })?;
        given("cuMemHostAlloc", memory)
    }

    #[inline]
    unsafe fn unpin(ptr: NonNull<u8>) -> Result<(), DriverError> {
        let context = *PINNING.get().ok_or(DriverError::new("cuMemFreeHost", Code::NOT_INITIALIZED))?;
        let free = context.driver.table.mem_free_host;
        // SAFETY:
        // - The caller promises that the memory comes from `pin` and is not used any more.
        context.enter("cuMemFreeHost", || unsafe { free(ptr.as_ptr()) })
    }
}

// SAFETY:
// - D1, D7: the state lies in what all handles of one context share, of which there is one at a time.
// - D2: the stream is a new one that does not synchronise with the default stream.
// - D3, D5: a device keeps its context, and memory and events belong to the context, not to a
//   thread or stream.
// - D9: no work of the device runs on a thread of the host.
// - D4: `cuMemFree` takes memory of any pool of the context.
// - D6: a stream of the context waits for the events and frees behind them. Without pools there are
//   no frees in stream order (M8), and the host waits.
// - D8: cuEventQuery takes an event of the context on any thread.
// - D10: a stream of its own waits for the event, and records the new one behind it. An event that was
//   never recorded has been passed: cuEventQuery returns "CUDA_SUCCESS if all captured work has been
//   completed, or CUDA_ERROR_NOT_READY if any captured work is incomplete" (CUDA driver manual 13.0).
unsafe impl RawDevice for Device {
    type Backend = CudaBackend;

    #[inline]
    fn shared(&self) -> &DeviceState {
        self.shared.state()
    }

    #[inline]
    fn ordinal(&self) -> usize {
        self.ordinal
    }

    #[inline]
    fn open(&self, options: &OpenOptions) -> Result<CudaStream, DriverError> {
        CudaStream::open(self.clone(), options)
    }

    #[inline]
    fn memory_info(&self) -> Result<(usize, usize), DriverError> {
        let info = self.context.driver.table.mem_get_info;
        let (mut free, mut total) = (0, 0);
        // SAFETY:
        // - Both are valid for a write.
        self.context.enter("cuMemGetInfo", || unsafe { info(&mut free, &mut total) })?;
        Ok((free, total))
    }

    #[inline]
    unsafe fn wait_event(&self, event: Event) -> Result<(), DriverError> {
        event.observe(self.context)
    }

    #[inline]
    unsafe fn destroy_event(&self, event: Event) {
        event.destroy(self.context);
    }

    #[inline]
    unsafe fn free(&self, ptr: NonNull<u8>) -> Result<(), DriverError> {
        let free = self.context.driver.table.mem_free;
        // SAFETY:
        // - The caller promises that `ptr` comes from `alloc` of a stream, which `cuMemFree` takes
        //   too, and that no work uses it: "Callers must ensure that all accesses to these pointer
        //   have completed before invoking cuMemFree" (CUDA driver manual 13.0).
        self.context.enter("cuMemFree", || unsafe { free(ptr.as_ptr()) })
    }

    #[inline]
    unsafe fn free_behind(&self, events: &[Event], memory: NonNull<u8>) -> Result<(), DriverError> {
        if self.pools {
            // SAFETY:
            // - The caller keeps the same contract, and `alloc` takes its memory from a pool.
            return unsafe { self.free_stream.free(events, memory) };
        }
        events.iter().try_for_each(|event| event.observe(self.context))?;
        // SAFETY:
        // - The caller promises the origin of the memory, and all work on it has been passed (H1).
        unsafe { self.free(memory) }
    }

    #[inline]
    unsafe fn has_passed(&self, event: Event) -> Result<bool, DriverError> {
        event.query(self.context)
    }

    #[inline]
    unsafe fn event_behind(&self, event: Option<Event>) -> Result<Event, DriverError> {
        let Some(event) = event else { return Event::create(self.context, DISABLE_TIMING) };
        // SAFETY:
        // - The caller keeps the same contract.
        unsafe { event_behind(self.context, event) }
    }
}
