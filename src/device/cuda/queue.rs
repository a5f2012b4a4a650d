//! One stream of a CUDA device, behind the driver seam: each operation is the driver call it is named after.

use core::{
    ffi::{c_uint, c_void},
    num::NonZero,
    ptr::NonNull,
};

use super::{
    Device,
    copy::{BatchLauncher, Failure},
    driver::{Answer, same_process},
    event::Event,
    pool::{cached_by, create_pool, default_pool, destroy_pool},
    stream_calls::StreamCalls,
};
use crate::{
    device::{
        Copies, Queue, Spares,
        code::{Code, DriverError},
        sealed::Sealed,
    },
    stream::{Pool, StreamOptions},
};

/// A stream of a CUDA device, with the pool it allocates from.
///
/// It never is the legacy default stream nor the handle of a thread's own stream. Dropping it destroys the stream, and
/// then the pool if it is the stream's own; memory that is still allocated from it stays valid.
#[derive(Debug)]
pub struct CudaQueue {
    /// Keeps the context alive.
    device: Device,
    /// Invariant: this alone destroys the stream, and if `own_pool` its pool.
    pub(super) calls: StreamCalls,
    own_pool: bool,
    /// Whether this made the device's context the thread's current one, because there was none.
    made_current: bool,
    pub(super) launcher: BatchLauncher,
}

impl CudaQueue {
    /// Opens a stream of `device`: one call for a shared pool or two for an own one, one for the stream, and two to see to
    /// it that the thread has a current context.
    ///
    /// # Errors
    /// What the driver answered; a pool that was created is destroyed again. That it is another process's, if this one was
    /// forked after the driver was initialised.
    #[inline]
    pub(crate) fn open(device: Device, options: &StreamOptions) -> Result<CudaQueue, DriverError> {
        same_process()?;
        let (context, raw) = (device.context, device.raw);
        let (pool, own_pool) = match options.pool {
            _ if !device.pools => (None, false),
            Pool::Default => (Some(default_pool(context, raw)?), false),
            Pool::Own { release_threshold } => (Some(create_pool(context, raw, release_threshold)?), true),
        };
        match StreamCalls::create(context, options.priority, pool) {
            Ok(calls) => {
                let launcher = BatchLauncher::new(device.clone());
                let mut queue = CudaQueue { device, calls, own_pool, made_current: false, launcher };
                if let Some(pool) = pool {
                    queue.device.shared.pools().open(pool);
                }
                queue.made_current = context.settle_on_thread()?;
                Ok(queue)
            }
            Err(error) => {
                if let Some(pool) = pool.filter(|_| own_pool) {
                    destroy_pool(context, pool);
                }
                Err(error)
            }
        }
    }

    /// The device the stream belongs to.
    #[inline]
    #[must_use]
    pub const fn device(&self) -> &Device {
        &self.device
    }

    /// The `CUstream`.
    #[inline]
    #[must_use]
    pub const fn raw(&self) -> *mut c_void {
        self.calls.raw()
    }

    /// Makes a call that enqueues work on the stream.
    #[inline]
    pub(super) fn on_stream(&self, name: &'static str, call: impl Fn() -> Answer) -> Result<(), DriverError> {
        self.calls.on_stream(name, call)
    }
}

impl Sealed for CudaQueue {}

// SAFETY:
// - Each method is the driver call it is named after, or a batch carried out by such calls and kernels, on the queue's own
//   stream, whose work the driver runs in order.
// - A refused call of the driver has done nothing; `run_batch` says what a refused batch leaves.
// - The driver's allocations are exclusively the caller's, and aligned to 256 bytes (CUDA driver manual 13.0).
// - Waits and queries answer as the driver does.
// - `device_id` is the address of the context.
// - The driver is C, and unwinds nowhere.
unsafe impl Queue for CudaQueue {
    type Event = Event;
    type Remote = Device;

    #[inline]
    fn remote(&self) -> Device {
        self.device.clone()
    }

    #[inline]
    fn device_id(&self) -> usize {
        self.device.context.address()
    }

    #[inline]
    fn ordinal(&self) -> usize {
        self.device.ordinal()
    }

    #[inline]
    fn frees_in_order(&self) -> bool {
        self.calls.pool.is_some()
    }

    #[inline]
    fn alloc(&self, bytes: NonZero<usize>) -> Result<NonNull<u8>, DriverError> {
        self.calls.alloc(bytes)
    }

    #[inline]
    unsafe fn free(&self, ptr: NonNull<u8>) -> Result<(), DriverError> {
        // SAFETY:
        // - The caller keeps the same contract.
        unsafe { self.calls.free(ptr) }
    }

    #[inline]
    fn alloc_sync(&self, bytes: NonZero<usize>) -> Result<NonNull<u8>, DriverError> {
        self.calls.alloc_sync(bytes)
    }

    #[inline]
    unsafe fn free_sync(&self, ptr: NonNull<u8>) -> Result<(), DriverError> {
        // SAFETY:
        // - The caller keeps the same contract.
        unsafe { self.calls.free_sync(ptr) }
    }

    #[inline]
    unsafe fn register(&self, ptr: *mut u8, bytes: NonZero<usize>, read_only: bool) -> Result<(), DriverError> {
        let register = self.device.context.driver.table.mem_host_register;
        let with = |flags| {
            // SAFETY:
            // - The caller promises that the memory stays mapped; the flags are some that the call has.
            self.device.context.enter("cuMemHostRegister", || unsafe { register(ptr, bytes.get(), flags) })
        };
        match with(if read_only { PORTABLE | READ_ONLY } else { PORTABLE }) {
            // The device cannot tell reading from writing; the pages may be writable all the same.
            Err(error) if read_only && [Code::NOT_SUPPORTED, Code::INVALID_VALUE].contains(&error.code) => {
                with(PORTABLE)
            }
            answer => answer,
        }
    }

    #[inline]
    unsafe fn unregister(&self, ptr: *mut u8) -> Result<(), DriverError> {
        let unregister = self.device.context.driver.table.mem_host_unregister;
        // SAFETY:
        // - The caller promises that no work uses the memory.
        self.device.context.enter("cuMemHostUnregister", || unsafe { unregister(ptr) })
    }

    #[inline]
    unsafe fn copy(&self, dst: *mut u8, src: *const u8, bytes: NonZero<usize>) -> Result<(), DriverError> {
        // SAFETY:
        // - The caller keeps the same contract.
        unsafe { self.calls.copy(dst, src, bytes) }
    }

    #[inline]
    unsafe fn fill(&self, dst: *mut u8, value: u8, bytes: NonZero<usize>) -> Result<(), DriverError> {
        // SAFETY:
        // - The caller keeps the same contract.
        unsafe { self.calls.fill(dst, value, bytes) }
    }

    #[inline]
    unsafe fn batch(&self, copies: Copies<'_>) -> Result<(), DriverError> {
        // SAFETY:
        // - The caller keeps the same contract. If the stream cannot be waited for, this does not return, so that sources in
        //   plain host memory stay as they are.
        match unsafe { self.launcher.run(&self.calls, copies) } {
            // Their owners are about to use or free them, and there is no other way to keep the device from reading them
            // (rule R12).
            Err(Failure::Unsettled(_)) => std::process::abort(),
            Err(Failure::Settled(error)) => Err(error),
            Ok(()) => Ok(()),
        }
    }

    #[inline]
    fn create_event(&self) -> Result<Event, DriverError> {
        self.calls.create_event()
    }

    #[inline]
    fn create_events(&self, places: &mut [Option<Event>]) -> Result<(), DriverError> {
        self.calls.create_events(places)
    }

    #[inline]
    fn destroy_event(&self, event: Event) {
        event.destroy(self.device.context);
    }

    #[inline]
    fn spares(&self) -> &Spares<Event> {
        self.device.shared.spares()
    }

    #[inline]
    fn record(&self, event: Event) -> Result<(), DriverError> {
        self.calls.record(event)
    }

    #[inline]
    fn wait(&self, event: Event) -> Result<(), DriverError> {
        let wait = self.device.context.driver.table.stream_wait_event;
        // SAFETY:
        // - Stream and event are alive, and of one context; the flags are 0, the default.
        self.on_stream("cuStreamWaitEvent", || unsafe { wait(self.raw(), event.0.raw(), 0) })
    }

    #[inline]
    fn query(&self, event: Event) -> Result<bool, DriverError> {
        self.calls.query(event)
    }

    #[inline]
    fn observe(&self, event: Event) -> Result<(), DriverError> {
        self.calls.observe(event)
    }

    #[inline]
    fn is_idle(&self) -> Result<bool, DriverError> {
        self.calls.is_idle()
    }

    #[inline]
    fn synchronize(&self) -> Result<(), DriverError> {
        self.calls.synchronize()
    }

    #[inline]
    fn trim(&self, keep: usize) -> Result<(), DriverError> {
        let Some(pool) = self.calls.pool else { return Ok(()) };
        let trim = self.device.context.driver.table.mem_pool_trim_to;
        // SAFETY:
        // - The pool is alive.
        self.device.context.on_stream("cuMemPoolTrimTo", || unsafe { trim(pool.0.raw(), keep) })
    }

    fn trim_others(&self) -> bool {
        let trim = self.device.context.driver.table.mem_pool_trim_to;
        let mut are_there = false;
        self.device.shared.pools().each(|pool| {
            if Some(pool) != self.calls.pool {
                are_there = true;
                // SAFETY:
                // - The pool is in the list, which is locked, and is destroyed only once it has been taken off: it is alive.
                let _ = self.device.context.on_stream("cuMemPoolTrimTo", || unsafe { trim(pool.0.raw(), 0) });
            }
        });
        are_there
    }

    fn cached(&self) -> Result<usize, DriverError> {
        let mut cached = Ok::<_, DriverError>(0_u64);
        self.device.shared.pools().each(|pool| {
            cached = cached.and_then(|sum| {
                // SAFETY:
                // - The pool is alive, as above.
                let idle = unsafe { cached_by(self.device.context, pool) }?;
                Ok(sum.saturating_add(idle))
            });
        });
        Ok(usize::try_from(cached?).unwrap_or(usize::MAX))
    }

    #[inline]
    fn warm(&self) -> Result<(), DriverError> {
        self.launcher.warm(&self.calls)
    }

    #[inline]
    fn memory_info(&self) -> Result<(usize, usize), DriverError> {
        let info = self.device.context.driver.table.mem_get_info;
        let (mut free, mut total) = (0, 0);
        // SAFETY:
        // - Both are valid for a write.
        self.device.context.enter("cuMemGetInfo", || unsafe { info(&mut free, &mut total) })?;
        Ok((free, total))
    }
}

impl Drop for CudaQueue {
    #[inline]
    fn drop(&mut self) {
        self.launcher.close(&self.calls);
        self.calls.destroy();
        if let Some(pool) = self.calls.pool {
            self.device.shared.pools().close(pool);
        }
        if let Some(pool) = self.calls.pool.filter(|_| self.own_pool) {
            destroy_pool(self.device.context, pool);
        }
        if self.made_current {
            self.device.context.leave_thread();
        }
    }
}

/// `CU_MEMHOSTREGISTER_PORTABLE` and `CU_MEMHOSTREGISTER_READ_ONLY`: pinned for all contexts; "treated as pointing to memory
/// that is considered read-only by the device" (CUDA driver manual 13.0).
const PORTABLE: c_uint = 1;
const READ_ONLY: c_uint = 8;
