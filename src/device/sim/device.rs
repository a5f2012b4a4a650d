//! The simulated backend and its devices, as the driver contract asks for them.

use core::{num::NonZero, ptr::NonNull};

use tidelock_driver::{
    Backend, Code, DeviceState, DriverError, HostAccess, OpenOptions, PinnedPool, RawDevice, Resolve,
};

use super::{
    Device, SimBackend, SimStream,
    engine::{self, Call, EventId, Memory, PLACED, Use, is_device},
    stream::failed,
};

// SAFETY:
// - P1, P2: `mem_host_alloc` gives page-aligned memory that is in no other range of the table, until `mem_host_free`; every
//   engine knows the page-locked memory of the process.
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
        engine::pin(bytes.get())
    }

    #[inline]
    unsafe fn unpin(ptr: NonNull<u8>) -> Result<(), DriverError> {
        // SAFETY:
        // - The caller keeps the contract of `Backend::unpin`, which is that of `engine::unpin`.
        unsafe { engine::unpin(ptr) }
    }

    #[inline]
    unsafe fn host_touches(access: HostAccess) {
        if engine::is_watching() {
            let HostAccess { ptr, bytes, writes, what, .. } = access;
            engine::host_touches(if writes { Use::write(ptr, bytes) } else { Use::read(ptr, bytes) }, what);
        }
    }
}

// SAFETY:
// - D1: the state lies in the engine, which lives as long as a handle of it.
// - D2, D3, D5: calls of the engine may be made by any thread, and every stream is a thread of its own.
// - D4: `mem_free` takes memory of any pool of the engine.
unsafe impl RawDevice for Device {
    type Backend = SimBackend;

    #[inline]
    fn shared(&self) -> &DeviceState<EventId> {
        self.engine().device_state()
    }

    #[inline]
    fn ordinal(&self) -> usize {
        self.engine().ordinal()
    }

    #[inline]
    fn open(&self, options: &OpenOptions) -> Result<SimStream, DriverError> {
        SimStream::open(self.clone(), options)
    }

    #[inline]
    fn memory_info(&self) -> Result<(usize, usize), DriverError> {
        self.engine().mem_get_info().map_err(failed(Call::MemGetInfo))
    }

    #[inline]
    unsafe fn wait_event(&self, event: EventId) -> Result<(), DriverError> {
        self.engine().event_synchronize(event).map_err(failed(Call::EventSynchronize))
    }

    #[inline]
    unsafe fn destroy_event(&self, event: EventId) {
        // Errors are ignored: a refused event stays with the engine, which reports it.
        let _ = self.engine().event_destroy(event);
    }

    #[inline]
    unsafe fn free(&self, ptr: NonNull<u8>) -> Result<(), DriverError> {
        // SAFETY:
        // - The caller promises that no work uses the memory.
        let answer = unsafe { self.engine().mem_free(ptr.as_ptr()) };
        answer.map_err(failed(Call::MemFree))
    }

    #[inline]
    unsafe fn free_behind(&self, event: EventId, memory: Option<NonNull<u8>>) -> bool {
        // SAFETY:
        // - The caller keeps the same contract.
        unsafe { self.engine().free_behind(event, memory) }
    }
}

// SAFETY:
// - The engine finds the bytes in one live allocation, which stays while `Memory` is borrowed, and the same for the same
//   address. Host memory goes by its own address.
// - Addresses of device memory are congruent modulo `PLACED` with those of what stands behind them.
unsafe impl Resolve for Memory {
    #[inline]
    fn resolve(&self, ptr: *mut u8, bytes: usize) -> Result<*mut u8, Code> {
        Memory::resolve(self, ptr, bytes)
    }

    #[inline]
    fn keeps_alignment(ptr: *const u8, align: usize) -> bool {
        align <= PLACED || !is_device(ptr.addr())
    }
}
