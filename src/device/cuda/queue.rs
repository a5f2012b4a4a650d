//! One stream of a CUDA device, behind the driver seam: each operation is the driver call it is named after.

use core::{
    cell::Cell,
    ffi::{c_int, c_uint, c_void},
    num::NonZero,
    ptr::{self, NonNull},
};

use super::{
    Batching, Device,
    batch::Failure,
    context::{Context, given},
    copy::BatchLauncher,
    driver::{Answer, Handle, same_process},
    pool::{PoolHandle, cached_by, create_pool, default_pool, destroy_pool},
};
use crate::{
    device::{
        Copies, Queue, Remote, Spares,
        code::{Code, DriverError},
        expand::GatherScratch,
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
    /// Beside the context's owner: the device keeps it alive.
    pub(super) device: Device,
    /// Invariant: a live stream of the device's context, that this alone destroys.
    stream: NonNull<c_void>,
    /// Invariant: a live pool of the device; if `own_pool`, this alone destroys it. `None` on devices that have no pools.
    pool: Option<NonNull<c_void>>,
    own_pool: bool,
    /// Whether this made the device's context the thread's current one, because there was none.
    made_current: bool,
    /// What makes the copies of a batch on the multiprocessors.
    pub(super) launcher: BatchLauncher,
    pub(super) scratch: GatherScratch,
    seen: Cell<Seen>,
}

/// What is known of the work that was enqueued through this queue. Others may use the stream too, so that it says whether
/// memory is free only of what this queue's own work uses; else it decides how something is done, not whether it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// There may be work left.
    Nothing,
    /// As before, and all of it lies before this event, recorded last.
    Upto(NonNull<c_void>),
    /// All work was seen to have ended.
    All,
}

/// A `CUevent` of a queue's context.
#[derive(Clone, Copy, Debug)]
pub struct Event(pub(super) NonNull<c_void>);

// SAFETY:
// - An event is a handle that belongs to its context, not to a thread.
unsafe impl Send for Event {}
// SAFETY:
// - As for `Send`; the handle is never changed.
unsafe impl Sync for Event {}

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
        let (pool, own_pool) = match options.pool {
            _ if !device.pools => (None, false),
            Pool::Default => (Some(default_pool(&device)?), false),
            Pool::Own { release_threshold } => (Some(create_pool(&device, release_threshold)?), true),
        };
        match create_stream(device.context, options.priority) {
            Ok(stream) => {
                let launcher = BatchLauncher::default();
                let scratch = GatherScratch::default();
                let mut queue = CudaQueue {
                    device,
                    stream,
                    pool,
                    own_pool,
                    made_current: false,
                    launcher,
                    scratch,
                    seen: Cell::new(Seen::All),
                };
                if let Some(pool) = pool {
                    queue.device.shared.pools().open(PoolHandle(pool));
                }
                queue.made_current = queue.device.context.settle_on_thread()?;
                Ok(queue)
            }
            Err(error) => {
                if let Some(pool) = pool.filter(|_| own_pool) {
                    destroy_pool(device.context, pool);
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
        self.stream.as_ptr()
    }

    /// Makes a call that enqueues work on the stream.
    #[inline]
    pub(super) fn on_stream(&self, name: &'static str, call: impl Fn() -> Answer) -> Result<(), DriverError> {
        self.seen.set(Seen::Nothing);
        self.device.context.on_stream(name, call)
    }

    /// Makes a call that enqueues copies on the stream.
    #[inline]
    pub(super) fn copying(&self, name: &'static str, call: impl Fn() -> Answer) -> Result<(), DriverError> {
        self.seen.set(Seen::Nothing);
        self.device.context.copying(name, call)
    }

    /// Whether all work that was enqueued through this queue was seen to have ended.
    #[inline]
    pub(super) fn seems_idle(&self) -> bool {
        self.seen.get() == Seen::All
    }

    /// The stream has passed `event`.
    #[inline]
    fn has_passed(&self, event: Event) {
        if self.seen.get() == Seen::Upto(event.0) {
            self.seen.set(Seen::All);
        }
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
        self.pool.is_some()
    }

    #[inline]
    fn alloc(&self, bytes: NonZero<usize>) -> Result<NonNull<u8>, DriverError> {
        let Some(pool) = self.pool else { return self.alloc_sync(bytes) };
        let alloc = self.device.context.driver.table.mem_alloc_from_pool_async;
        let address = core::cell::Cell::new(ptr::null_mut());
        // SAFETY:
        // - `address` is valid for a write; pool and stream are alive, by the invariants of the type.
        self.device.context.on_stream("cuMemAllocFromPoolAsync", || unsafe {
            alloc(address.as_ptr(), bytes.get(), pool.as_ptr(), self.raw())
        })?;
        given("cuMemAllocFromPoolAsync", address.get())
    }

    #[inline]
    unsafe fn free(&self, ptr: NonNull<u8>) -> Result<(), DriverError> {
        if self.pool.is_none() {
            self.synchronize()?;
            // SAFETY:
            // - The caller promises that `ptr` comes from `alloc`, which is `alloc_sync` here, and that the work that uses it
            //   comes earlier in the stream, which was waited for.
            return unsafe { self.free_sync(ptr) };
        }
        let free = self.device.context.driver.table.mem_free_async;
        // SAFETY:
        // - The caller promises that `ptr` comes from `alloc` and that work on it is ordered before: "the free operation
        //   is performed in stream order" is what the call does (CUDA driver manual 13.0, stream ordered allocator).
        self.device.context.on_stream("cuMemFreeAsync", || unsafe { free(ptr.as_ptr(), self.raw()) })
    }

    #[inline]
    fn alloc_sync(&self, bytes: NonZero<usize>) -> Result<NonNull<u8>, DriverError> {
        let alloc = self.device.context.driver.table.mem_alloc;
        let mut address = ptr::null_mut();
        // SAFETY:
        // - `address` is valid for a write.
        self.device.context.enter("cuMemAlloc", || unsafe { alloc(&mut address, bytes.get()) })?;
        given("cuMemAlloc", address)
    }

    #[inline]
    unsafe fn free_sync(&self, ptr: NonNull<u8>) -> Result<(), DriverError> {
        let free = self.device.context.driver.table.mem_free;
        // SAFETY:
        // - The caller promises that `ptr` comes from `alloc_sync` and that no work uses it.
        self.device.context.enter("cuMemFree", || unsafe { free(ptr.as_ptr()) })
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
        let copy = self.device.context.driver.table.memcpy_async;
        // SAFETY:
        // - The caller promises that both ranges are valid until the stream has passed the copy, and in order.
        // - Host and device addresses are told apart by the driver: `open` takes devices with unified addressing only.
        self.copying("cuMemcpyAsync", || unsafe { copy(dst, src, bytes.get(), self.raw()) })
    }

    #[inline]
    unsafe fn fill(&self, dst: *mut u8, value: u8, bytes: NonZero<usize>) -> Result<(), DriverError> {
        let fill = self.device.context.driver.table.memset_d8_async;
        // SAFETY:
        // - The caller promises that the range is valid until the stream has passed the fill, and in order.
        self.on_stream("cuMemsetD8Async", || unsafe { fill(dst, value, bytes.get(), self.raw()) })
    }

    #[inline]
    unsafe fn batch(&self, copies: Copies<'_>) -> Result<(), DriverError> {
        // SAFETY:
        // - The caller keeps the same contract. If the stream cannot be waited for, this does not return, so that sources in
        //   plain host memory stay as they are.
        match unsafe { self.run_batch(copies) } {
            // Their owners are about to use or free them, and there is no other way to keep the device from reading them
            // (rule R12).
            Err(Failure::Unsettled(_)) => std::process::abort(),
            Err(Failure::Settled(error)) => Err(error),
            Ok(()) => Ok(()),
        }
    }

    #[inline]
    fn create_event(&self) -> Result<Event, DriverError> {
        let mut place = [None];
        self.create_events(&mut place)?;
        let [event] = place;
        event.ok_or(DriverError::new("cuEventCreate", Code::UNKNOWN))
    }

    #[inline]
    fn create_events(&self, places: &mut [Option<Event>]) -> Result<(), DriverError> {
        let create = self.device.context.driver.table.event_create;
        // All of them in one visit to the context: nothing else runs on this thread in between.
        self.device.context.enter("cuEventCreate", || {
            for place in places {
                let mut event = ptr::null_mut();
                // SAFETY:
                // - `event` is valid for a write.
                let answer = unsafe { create(&mut event, DISABLE_TIMING) };
                if answer != 0 {
                    return answer;
                }
                *place = NonNull::new(event).map(Event);
            }
            0
        })
    }

    #[inline]
    fn destroy_event(&self, event: Event) {
        Remote::destroy_event(&self.device, event);
    }

    #[inline]
    fn spares(&self) -> &Spares<Event> {
        self.device.shared.spares()
    }

    #[inline]
    fn record(&self, event: Event) -> Result<(), DriverError> {
        let record = self.device.context.driver.table.event_record;
        // SAFETY:
        // - Event and stream are alive, and of one context: events of a queue stay with it.
        self.device.context.on_stream("cuEventRecord", || unsafe { record(event.0.as_ptr(), self.raw()) })?;
        if !self.seems_idle() {
            self.seen.set(Seen::Upto(event.0));
        }
        Ok(())
    }

    #[inline]
    fn wait(&self, event: Event) -> Result<(), DriverError> {
        let wait = self.device.context.driver.table.stream_wait_event;
        // SAFETY:
        // - Stream and event are alive, and of one context; the flags are 0, the default.
        self.on_stream("cuStreamWaitEvent", || unsafe { wait(self.raw(), event.0.as_ptr(), 0) })
    }

    #[inline]
    fn query(&self, event: Event) -> Result<bool, DriverError> {
        let query = self.device.context.driver.table.event_query;
        // SAFETY:
        // - The event is alive.
        let answer = passed(self.device.context.on_stream("cuEventQuery", || unsafe { query(event.0.as_ptr()) }))?;
        if answer {
            self.has_passed(event);
        }
        Ok(answer)
    }

    #[inline]
    fn observe(&self, event: Event) -> Result<(), DriverError> {
        Remote::observe(&self.device, event)?;
        self.has_passed(event);
        Ok(())
    }

    #[inline]
    fn is_idle(&self) -> Result<bool, DriverError> {
        let query = self.device.context.driver.table.stream_query;
        // SAFETY:
        // - The stream is alive.
        let answer = passed(self.device.context.on_stream("cuStreamQuery", || unsafe { query(self.raw()) }))?;
        if answer {
            self.seen.set(Seen::All);
        }
        Ok(answer)
    }

    #[inline]
    fn synchronize(&self) -> Result<(), DriverError> {
        let wait = self.device.context.driver.table.stream_synchronize;
        // SAFETY:
        // - The stream is alive.
        self.device.context.on_stream("cuStreamSynchronize", || unsafe { wait(self.raw()) })?;
        self.seen.set(Seen::All);
        Ok(())
    }

    #[inline]
    fn trim(&self, keep: usize) -> Result<(), DriverError> {
        let Some(pool) = self.pool else { return Ok(()) };
        let trim = self.device.context.driver.table.mem_pool_trim_to;
        // SAFETY:
        // - The pool is alive.
        self.device.context.on_stream("cuMemPoolTrimTo", || unsafe { trim(pool.as_ptr(), keep) })
    }

    fn trim_others(&self) -> bool {
        let trim = self.device.context.driver.table.mem_pool_trim_to;
        let mut are_there = false;
        self.device.shared.pools().each(|pool| {
            if Some(pool.0) != self.pool {
                are_there = true;
                // SAFETY:
                // - The pool is in the list, which is locked, and is destroyed only once it has been taken off: it is alive.
                let _ = self.device.context.on_stream("cuMemPoolTrimTo", || unsafe { trim(pool.0.as_ptr(), 0) });
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
        if self.device.batching == Batching::Auto { self.launcher.warm(self) } else { Ok(()) }
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
        self.launcher.close(self);
        let destroy = self.device.context.driver.table.stream_destroy;
        // SAFETY:
        // - The stream is this queue's alone and is gone after this; "In case the device is still doing work in the stream
        //   hStream when cuStreamDestroy() is called, the function will return immediately and the resources associated
        //   with hStream will be released automatically once the device has completed all work" (manual 13.0).
        // There is nobody to tell a failure.
        let _ = self.device.context.on_stream("cuStreamDestroy", || unsafe { destroy(self.raw()) });
        if let Some(pool) = self.pool {
            self.device.shared.pools().close(PoolHandle(pool));
        }
        if let Some(pool) = self.pool.filter(|_| self.own_pool) {
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
/// `CU_STREAM_NON_BLOCKING`: no order between the stream and the legacy default stream.
const NON_BLOCKING: c_uint = 1;
/// `CU_EVENT_DISABLE_TIMING`.
const DISABLE_TIMING: c_uint = 2;

#[cfg(any(test, tidelock_declarations))]
mod declared {
    use super::*;
    use crate::device::cuda::declarations::same_number;

    same_number!(NON_BLOCKING, CUstream_flags::CU_STREAM_NON_BLOCKING);
    same_number!(DISABLE_TIMING, CUevent_flags::CU_EVENT_DISABLE_TIMING);
}

/// Creates a stream. A priority the device does not have is clamped by the driver: "If the specified priority is outside
/// the numerical range returned by cuCtxGetStreamPriorityRange, it will automatically be clamped to the lowest or the
/// highest number in the range" (CUDA driver manual 13.0).
fn create_stream(context: Context, priority: c_int) -> Result<NonNull<c_void>, DriverError> {
    let mut stream: Handle = ptr::null_mut();
    let create = context.driver.table.stream_create;
    // SAFETY:
    // - `stream` is valid for a write.
    context.enter("cuStreamCreateWithPriority", || unsafe { create(&mut stream, NON_BLOCKING, priority) })?;
    given("cuStreamCreateWithPriority", stream)
}

/// An answer that may be "not yet".
fn passed(answer: Result<(), DriverError>) -> Result<bool, DriverError> {
    match answer {
        Ok(()) => Ok(true),
        Err(error) if error.code == Code::NOT_READY => Ok(false),
        Err(error) => Err(error),
    }
}
