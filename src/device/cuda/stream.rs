//! The driver contract for one stream of a CUDA device: each operation is the driver call it is
//! named after.

use core::{
    cell::Cell,
    ffi::{c_uint, c_void},
    num::NonZero,
    ptr::NonNull,
    time::Duration,
};

use tidelock_driver::{Allocation, Code, CopyBatch, DriverError, OpenOptions, Operands, Pool, RawStream};

use super::{
    CudaBackend, Device,
    copy::{BatchLauncher, Failure},
    driver::{Answer, same_process},
    event::Event,
    handle::DriverObject,
    pool::{PoolHandle, cached_by, create_pool, default_pool, destroy_pool},
    stream_calls::StreamCalls,
};

/// A stream of a CUDA device, with the pool it allocates from.
///
/// It is never the legacy default stream, nor the handle of a thread's own stream. Dropping it
/// destroys the stream, unless it was adopted, and then the pool if it is the stream's own; memory that
/// is still allocated from it stays valid.
#[derive(Debug)]
pub struct CudaStream {
    /// Keeps the context alive.
    device: Device,
    /// Invariant: this alone destroys the stream if `own_stream`, and its pool if `own_pool`.
    pub(super) calls: StreamCalls,
    own_stream: bool,
    own_pool: bool,
    /// Whether `enter` made the device's context the current one of the thread that has entered the
    /// stream, because there was none.
    made_current: Cell<bool>,
    pub(super) launcher: BatchLauncher,
}

impl CudaStream {
    /// Opens a stream of `device`: one call for a shared pool or two for its own, and one for the
    /// stream.
    ///
    /// # Errors
    /// What the driver answered; a pool that was created is destroyed again. `NOT_INITIALIZED` if
    /// this process was forked after the driver was initialised.
    #[inline]
    pub(crate) fn open(device: Device, options: &OpenOptions) -> Result<CudaStream, DriverError> {
        let context = device.context;
        CudaStream::with(device, options, true, |pool| StreamCalls::create(context, options.priority, pool))
    }

    /// A stream of `device` that was made elsewhere. It is not destroyed.
    ///
    /// # Errors
    /// As for [`open`](CudaStream::open).
    ///
    /// # Safety
    /// - `stream` is a stream of the context of `device`, and no default stream. It is not destroyed
    ///   before this value has been dropped.
    pub(super) unsafe fn adopted(
        device: Device,
        stream: DriverObject,
        options: &OpenOptions,
    ) -> Result<CudaStream, DriverError> {
        let context = device.context;
        // SAFETY:
        // - The caller keeps the same contract.
        CudaStream::with(device, options, false, |pool| Ok(unsafe { StreamCalls::adopted(context, stream, pool) }))
    }

    /// The stream that `calls` returns for the pool, which this destroys if `own_stream`.
    fn with(
        device: Device,
        options: &OpenOptions,
        own_stream: bool,
        calls: impl FnOnce(Option<PoolHandle>) -> Result<StreamCalls, DriverError>,
    ) -> Result<CudaStream, DriverError> {
        same_process()?;
        let (context, raw) = (device.context, device.raw);
        let (pool, own_pool) = match options.pool {
            _ if !device.pools => (None, false),
            Pool::Own { release_threshold } => (Some(create_pool(context, raw, release_threshold)?), true),
            _ => (Some(default_pool(context, raw)?), false),
        };
        match calls(pool) {
            Ok(calls) => {
                let launcher = BatchLauncher::new(device.clone());
                let made_current = Cell::new(false);
                let stream = CudaStream { device, calls, own_stream, own_pool, made_current, launcher };
                if let Some(pool) = pool {
                    stream.device.shared.pools().open(pool);
                }
                Ok(stream)
            }
            Err(error) => {
                if let Some(pool) = pool.filter(|_| own_pool) {
                    destroy_pool(context, pool);
                }
                Err(error)
            }
        }
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

// SAFETY:
// - D2, S1 to S7: a call enters the device's context where the driver needs one, and leaves the
//   thread's as it was; the driver is C, and unwinds nowhere. The stream is not `Sync`.
// - S8: what `enter` changes is the thread's current context, where there was none.
// - M1 to M8: the driver's allocations are exclusively the caller's and aligned to 256 bytes;
//   "cuMemAllocAsync … allocates memory with stream ordered semantics", and `cuMemAlloc` "suitably
//   aligned for any kind of variable" (CUDA driver manual 13.0). Without a pool memory is not freed
//   in order, as `frees_in_order` says.
// - O1 to O6: each method is the driver call it is named after, or a batch carried out by such
//   calls and kernels, on the stream's own `CUstream`, whose work the driver runs in order.
// - E1 to E5: events are the driver's. "cuStreamWaitEvent … uses the most recent host call to
//   cuEventRecord() at the time of" the call (manual 13.0).
// - E8, E9: a timed event is created without `CU_EVENT_DISABLE_TIMING`. cuEventElapsedTime
//   "Computes the elapsed time between two events (in milliseconds with a resolution of around 0.5
//   microseconds)" (manual 13.0), and answers NOT_READY rather than wait.
// - H1 to H3: waits and queries answer as the driver does.
// - F1 to F6: a refused call of the driver has done nothing; `BatchLauncher::run` says what a
//   refused batch leaves. The codes of `Code::is_sticky` are those that the manual (13.0,
//   `CUresult`) describes with "leaves the process in an inconsistent state and any further CUDA
//   work will return the same error".
unsafe impl RawStream for CudaStream {
    type Backend = CudaBackend;

    const TAKES: Operands = Operands::HOST_SOURCES
        .and(Operands::ROW_GATHERS)
        .and(Operands::DEVICE_ROW_GATHERS)
        .and(Operands::ROW_SCATTERS)
        .and(Operands::PITCHED_ROWS)
        .and(Operands::STRIDED_COPIES);

    #[inline]
    fn device(&self) -> &Device {
        &self.device
    }

    /// Cost: one driver call, and another one if the thread has no current context.
    #[inline]
    unsafe fn enter(&self) {
        self.made_current.set(self.device.context.settle_on_thread());
    }

    /// Cost: two driver calls if `enter` made the context current, and none otherwise.
    #[inline]
    unsafe fn leave(&self) {
        if self.made_current.take() {
            self.device.context.leave_thread();
        }
    }

    #[inline]
    fn frees_in_order(&self) -> bool {
        self.calls.pool.is_some()
    }

    #[inline]
    fn alloc(&self, request: Allocation) -> Result<NonNull<u8>, DriverError> {
        self.calls.alloc(request.bytes)
    }

    #[inline]
    unsafe fn free(&self, ptr: NonNull<u8>) -> Result<(), DriverError> {
        // SAFETY:
        // - The caller keeps the same contract.
        unsafe { self.calls.free(ptr) }
    }

    #[inline]
    fn alloc_now(&self, request: Allocation) -> Result<NonNull<u8>, DriverError> {
        self.calls.alloc_now(request.bytes)
    }

    #[inline]
    unsafe fn free_now(&self, ptr: NonNull<u8>) -> Result<(), DriverError> {
        // SAFETY:
        // - The caller keeps the same contract.
        unsafe { self.calls.free_now(ptr) }
    }

    #[inline]
    unsafe fn register(&self, ptr: *mut u8, bytes: NonZero<usize>, read_only: bool) -> Result<(), DriverError> {
        let register = self.device.context.driver.table.mem_host_register;
        let with = |flags| {
            // SAFETY:
            // - The caller promises that the memory stays mapped; the flags are some that the call
            //   has.
            self.device.context.enter("cuMemHostRegister", || unsafe { register(ptr, bytes.get(), flags) })
        };
        match with(if read_only { PORTABLE | READ_ONLY } else { PORTABLE }) {
            // The device has no read-only registration; the pages may be writable all the same.
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
    unsafe fn batch(&self, copies: CopyBatch<'_>) -> Result<(), DriverError> {
        // SAFETY:
        // - The caller keeps the same contract. If the stream cannot be waited for, this does not
        //   return, so that sources in plain host memory stay as they are.
        match unsafe { self.launcher.run(&self.calls, copies) } {
            // Their owners use or free them next, and nothing else keeps the device from reading
            // them (rule R12).
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
    fn create_timed_event(&self) -> Result<Event, DriverError> {
        self.calls.create_timed_event()
    }

    #[inline]
    unsafe fn elapsed(&self, start: Event, end: Event) -> Result<Duration, DriverError> {
        self.calls.elapsed(start, end)
    }

    #[inline]
    unsafe fn record(&self, event: Event) -> Result<(), DriverError> {
        self.calls.record(event)
    }

    #[inline]
    unsafe fn wait(&self, event: Event) -> Result<(), DriverError> {
        // SAFETY:
        // - The caller keeps the same contract.
        unsafe { self.calls.wait(event) }
    }

    #[inline]
    unsafe fn has_passed(&self, event: Event) -> Result<bool, DriverError> {
        self.calls.query(event)
    }

    #[inline]
    unsafe fn wait_event(&self, event: Event) -> Result<(), DriverError> {
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
        // The pool may not give back what no wait has seen freed: "Allocations that have been
        // asynchronously freed but whose completion has not been completed on the host (eg. by a
        // synchronize) can count as outstanding" (CUDA driver manual 13.0, cuMemPoolTrimTo).
        let trim = self.device.context.driver.table.mem_pool_trim_to;
        // M9: "Allocations that have been asynchronously freed but whose completion has not been
        // completed on the host (eg. by a synchronize) can count as outstanding" (CUDA driver
        // manual 13.0, cuMemPoolTrimTo). SAFETY:
        // - The pool is alive.
        self.device.context.on_stream("cuMemPoolTrimTo", || unsafe { trim(pool.0.raw(), keep) })
    }

    #[inline]
    fn trim_others(&self) -> bool {
        let trim = self.device.context.driver.table.mem_pool_trim_to;
        self.device.shared.pools().each_other(self.calls.pool, |pool| {
            // SAFETY:
            // - The pool is in the list, which is locked, and is destroyed only once it has been
            //   taken off: it is alive.
            let _ = self.device.context.on_stream("cuMemPoolTrimTo", || unsafe { trim(pool.0.raw(), 0) });
        })
    }

    #[inline]
    fn cached(&self) -> Result<usize, DriverError> {
        self.device.shared.pools().sum(|pool| {
            // SAFETY:
            // - The pool is alive, as above.
            let idle = unsafe { cached_by(self.device.context, pool) }?;
            Ok(usize::try_from(idle).unwrap_or(usize::MAX))
        })
    }

    #[inline]
    fn warm(&self) -> Result<(), DriverError> {
        self.launcher.warm(&self.calls)
    }
}

// SAFETY:
// - The objects of the driver belong to a context, and a call takes them on any thread
//   (`DriverObject`). That holds for streams, pools, events, modules and functions. Of graphs the
//   manual says: "Graph objects (cudaGraph_t, CUgraph) are not internally synchronized and must not
//   be accessed concurrently from multiple threads" (CUDA driver manual 13.0, "Graph object thread
//   safety"). One thread at a time uses the stream, and so the graphs that it alone owns (S1).
// - The stream owns its pinned rings and tables. The pointers to them lie in the launcher alone, and
//   the memory is usable by every host thread (P1).
// - The launcher and the calls keep state in cells, which one thread at a time uses (S1).
// - `made_current` is about the thread that has entered the stream, and is false while none has
//   (S8). A stream that is dropped while it is entered is dropped on that thread.
unsafe impl Send for CudaStream {}

// One thread at a time uses it (S1).
static_assertions::assert_not_impl_any!(CudaStream: Sync);

impl Drop for CudaStream {
    #[inline]
    fn drop(&mut self) {
        self.launcher.close(&self.calls);
        if self.own_stream {
            self.calls.destroy();
        }
        if let Some(pool) = self.calls.pool {
            self.device.shared.pools().close(pool);
        }
        if let Some(pool) = self.calls.pool.filter(|_| self.own_pool) {
            destroy_pool(self.device.context, pool);
        }
        if self.made_current.take() {
            self.device.context.leave_thread();
        }
    }
}

/// `CU_MEMHOSTREGISTER_PORTABLE` and `CU_MEMHOSTREGISTER_READ_ONLY`: pinned for all contexts;
/// "treated as pointing to memory that is considered read-only by the device" (CUDA driver manual
/// 13.0).
const PORTABLE: c_uint = 1;
const READ_ONLY: c_uint = 8;
