//! One stream of a simulated device, as the driver contract asks for it.

use core::{num::NonZero, ptr::NonNull, time::Duration};

use tidelock_driver::{
    Allocation, Code, CopyBatch, DriverError, HostFns, KernelUse, OpenOptions, Operands, Pool, RawStream,
};
use tidelock_simulator::{Call, EventId, Gpu, Memory, PoolId, StreamId, Task, Use, is_watching};

use super::{Device, SimBackend};

/// A stream of a simulated device, with the pool it allocates from.
///
/// Dropping it destroys the stream, which waits for its work, and then the pool if it is the
/// stream's own. What the device refuses to destroy, because it is broken, stays with the GPU.
#[derive(Debug)]
pub struct SimStream {
    device: Device,
    stream: StreamId,
    pool: PoolId,
    own_pool: bool,
}

impl SimStream {
    /// Opens a stream of `device`: one call for the pool and one for the stream.
    ///
    /// # Errors
    /// What the GPU answered; a pool that was created is destroyed again.
    #[inline]
    pub(crate) fn open(device: Device, options: &OpenOptions) -> Result<SimStream, DriverError> {
        let gpu = device.gpu();
        let (pool, own_pool) = match options.pool {
            Pool::Own { release_threshold } => {
                (gpu.pool_create(release_threshold).map_err(failed(Call::MemPoolCreate))?, true)
            }
            _ => (gpu.default_pool().map_err(failed(Call::DeviceGetDefaultMemPool))?, false),
        };
        match gpu.stream_create(options.priority) {
            Ok(stream) => {
                device.pools().open(pool);
                Ok(SimStream { device, stream, pool, own_pool })
            }
            Err(code) => {
                if own_pool {
                    // The failure that is reported is the one that came first.
                    let _ = gpu.pool_destroy(pool);
                }
                Err(failed(Call::StreamCreate)(code))
            }
        }
    }

    /// The simulated driver that the stream belongs to.
    #[inline]
    #[must_use]
    pub const fn gpu(&self) -> &Gpu {
        self.device.gpu()
    }

    /// The handle of the stream.
    #[inline]
    #[must_use]
    pub const fn stream(&self) -> StreamId {
        self.stream
    }

    /// The handle of the pool the stream allocates from.
    #[inline]
    #[must_use]
    pub const fn pool(&self) -> PoolId {
        self.pool
    }

    /// Enqueues `task`, which touches the memory that `uses` say.
    ///
    /// # Errors
    /// What the GPU answered; the task was dropped then.
    #[inline]
    pub(in crate::device::sim) fn launch_using(&self, task: Task, uses: &[Use]) -> Result<(), DriverError> {
        self.gpu().launch_using(self.stream, task, uses).map_err(failed(Call::LaunchKernel))
    }
}

// SAFETY:
// - D2, S1 to S5: a stream of the GPU is a thread, and calls look at the GPU alone, which answers
//   with codes, unwinds nowhere, and may be called by any thread.
// - S8: `enter` and `leave` inform the race detector only.
// - M1 to M11: the heap gives out ranges of its own table, at multiples of 512, until their free,
//   which the GPU checks.
// - O1 to O6, O9, O11: the thread runs the operations one after the other, each on the ranges it was
//   enqueued with.
// - E1 to E7: a record is a place in that order; a handle is looked up in the GPU that it belongs
//   to.
// - E8, E9: the stream's thread writes the time of the GPU's monotonic clock when it comes to the
//   record of a timed event.
// - H1 to H3: waits and queries look at the tickets that the stream's thread has passed, with
//   acquire.
// - F1 to F8: a call answers with an error before it submits anything; row gathers are submissions
//   of their own, before the rest of a batch.
unsafe impl RawStream for SimStream {
    type Backend = SimBackend;

    const TAKES: Operands = Operands::HOST_SOURCES.and(Operands::DEVICE_ROW_GATHERS).and(Operands::PITCHED_ROWS);

    #[inline]
    fn device(&self) -> &Device {
        &self.device
    }

    #[inline]
    unsafe fn enter(&self) {
        // SAFETY:
        // - The caller promises that all calls on the stream before happen before this (S1).
        unsafe { self.gpu().stream_entered(self.stream) }
    }

    #[inline]
    unsafe fn leave(&self) {
        // SAFETY:
        // - Whoever enters the stream next promises to come after this (S1).
        unsafe { self.gpu().stream_left(self.stream) }
    }

    #[inline]
    fn alloc(&self, request: Allocation) -> Result<NonNull<u8>, DriverError> {
        let answer = self.gpu().mem_alloc_async(request.bytes.get(), self.pool, self.stream);
        answer.map_err(failed(Call::MemAllocFromPoolAsync))
    }

    #[inline]
    unsafe fn free(&self, ptr: NonNull<u8>) -> Result<(), DriverError> {
        // SAFETY:
        // - The caller promises that work on the memory is ordered before the stream's next
        //   operation.
        let answer = unsafe { self.gpu().mem_free_async(ptr.as_ptr(), self.stream) };
        answer.map_err(failed(Call::MemFreeAsync))
    }

    #[inline]
    fn alloc_now(&self, request: Allocation) -> Result<NonNull<u8>, DriverError> {
        self.gpu().mem_alloc(request.bytes.get()).map_err(failed(Call::MemAlloc))
    }

    #[inline]
    unsafe fn free_now(&self, ptr: NonNull<u8>) -> Result<(), DriverError> {
        // SAFETY:
        // - The caller promises that no work uses the memory.
        let answer = unsafe { self.gpu().mem_free(ptr.as_ptr()) };
        answer.map_err(failed(Call::MemFree))
    }

    #[inline]
    unsafe fn register(&self, ptr: *mut u8, bytes: NonZero<usize>, _read_only: bool) -> Result<(), DriverError> {
        // SAFETY:
        // - The caller promises that the memory stays.
        let answer = unsafe { self.gpu().mem_host_register(ptr, bytes.get()) };
        answer.map_err(failed(Call::MemHostRegister))
    }

    #[inline]
    unsafe fn unregister(&self, ptr: *mut u8) -> Result<(), DriverError> {
        // SAFETY:
        // - The caller promises that no work uses the memory.
        let answer = unsafe { self.gpu().mem_host_unregister(ptr) };
        answer.map_err(failed(Call::MemHostUnregister))
    }

    #[inline]
    unsafe fn copy(&self, dst: *mut u8, src: *const u8, bytes: NonZero<usize>) -> Result<(), DriverError> {
        // SAFETY:
        // - The caller promises of both ranges what the GPU asks for.
        let answer = unsafe { self.gpu().memcpy_async(dst, src, bytes.get(), self.stream) };
        answer.map_err(failed(Call::MemcpyAsync))
    }

    #[inline]
    unsafe fn fill(&self, dst: *mut u8, value: u8, bytes: NonZero<usize>) -> Result<(), DriverError> {
        // SAFETY:
        // - The caller promises that nothing conflicts with the fill.
        let answer = unsafe { self.gpu().memset_d8_async(dst, value, bytes.get(), self.stream) };
        answer.map_err(failed(Call::MemsetD8Async))
    }

    #[inline]
    unsafe fn batch(&self, batch: CopyBatch<'_>) -> Result<(), DriverError> {
        for gather in batch.gathers.all() {
            // SAFETY:
            // - The caller keeps the same contract; the numbers of a gather that it passes lie in
            //   device memory.
            unsafe { self.gather_rows(gather) }?;
        }
        if batch.len.is_empty() {
            return Ok(());
        }
        // SAFETY:
        // - The caller promises of each copy what the GPU asks for.
        let answer =
            unsafe { self.gpu().memcpy_batch_async(batch.dst, batch.src, batch.len, batch.host_from, self.stream) };
        answer.map_err(failed(Call::MemcpyBatchAsync))
    }

    #[inline]
    fn create_event(&self) -> Result<EventId, DriverError> {
        self.gpu().event_create().map_err(failed(Call::EventCreate))
    }

    #[inline]
    unsafe fn record(&self, event: EventId) -> Result<(), DriverError> {
        self.gpu().event_record(event, self.stream).map_err(failed(Call::EventRecord))
    }

    #[inline]
    unsafe fn wait(&self, event: EventId) -> Result<(), DriverError> {
        self.gpu().stream_wait_event(self.stream, event).map_err(failed(Call::StreamWaitEvent))
    }

    #[inline]
    unsafe fn has_passed(&self, event: EventId) -> Result<bool, DriverError> {
        self.gpu().event_query(event).map_err(failed(Call::EventQuery))
    }

    #[inline]
    fn create_timed_event(&self) -> Result<EventId, DriverError> {
        self.gpu().event_create_timed().map_err(failed(Call::EventCreate))
    }

    #[inline]
    unsafe fn elapsed(&self, start: EventId, end: EventId) -> Result<Duration, DriverError> {
        self.gpu().event_elapsed(start, end).map_err(failed(Call::EventElapsedTime))
    }

    #[inline]
    fn is_idle(&self) -> Result<bool, DriverError> {
        self.gpu().stream_query(self.stream).map_err(failed(Call::StreamQuery))
    }

    #[inline]
    fn synchronize(&self) -> Result<(), DriverError> {
        self.gpu().stream_synchronize(self.stream).map_err(failed(Call::StreamSynchronize))
    }

    #[inline]
    unsafe fn loans_end(&self) {
        // SAFETY:
        // - The caller has waited for the stream: the contract of `RawStream::loans_end`.
        unsafe { self.gpu().loans_end(self.stream) }
    }

    #[inline]
    fn trim(&self, keep: usize) -> Result<(), DriverError> {
        self.gpu().pool_trim_to(self.pool, keep).map_err(failed(Call::MemPoolTrimTo))
    }

    #[inline]
    fn trim_others(&self) -> bool {
        self.device.pools().each_other(Some(self.pool), |pool| {
            let _ = self.gpu().pool_trim_to(pool, 0);
        })
    }

    #[inline]
    fn cached(&self) -> Result<usize, DriverError> {
        self.device.pools().sum(|pool| {
            let usage = self.gpu().pool_usage(pool).map_err(failed(Call::MemPoolGetAttribute))?;
            Ok(usage.reserved.saturating_sub(usage.used))
        })
    }
}

// SAFETY:
// - L1, L2: a task is an operation of the stream's thread, which calls it once, or drops it unrun.
// - L4: an error or a panic of a task breaks the device; the panic goes no further.
unsafe impl HostFns for SimStream {
    type Memory = Memory;

    #[inline]
    unsafe fn run(
        &self,
        f: impl FnOnce(&Memory) -> Result<(), Code> + Send + 'static,
        uses: impl FnOnce(&mut dyn FnMut(KernelUse)),
    ) -> Result<(), DriverError> {
        let mut named = Vec::new();
        if is_watching() {
            uses(&mut |KernelUse { ptr, bytes, writes, .. }| {
                named.push(if writes { Use::write(ptr, bytes) } else { Use::read(ptr, bytes) });
            });
        }
        self.launch_using(Task::new(f), &named)
    }
}

impl Drop for SimStream {
    #[inline]
    fn drop(&mut self) {
        // Errors are ignored: what is refused stays with the GPU, which reports it.
        let _ = self.gpu().stream_destroy(self.stream);
        self.device.pools().close(self.pool);
        if self.own_pool {
            let _ = self.gpu().pool_destroy(self.pool);
        }
    }
}

/// Turns an answer of `call` into an error that names it.
pub(super) fn failed(call: Call) -> impl Fn(Code) -> DriverError {
    move |code| DriverError::new(call.name(), code)
}
