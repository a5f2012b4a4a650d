//! One stream of a simulated device, behind the driver seam.

use core::{num::NonZero, ptr::NonNull};

use super::engine::{Call, Engine, EventId, PoolId, StreamId, Task, Use};
use crate::{
    device::{
        Copies, Queue, Remote, Spares,
        code::{Code, DriverError},
        expand::GatherScratch,
        sealed::Sealed,
    },
    stream::{Pool, StreamOptions},
};

/// A stream of a simulated device, with the pool it allocates from.
///
/// Dropping it destroys the stream, which waits for its work, and then the pool if it is the stream's own. What the
/// device refuses to destroy, because it is broken, stays with the engine.
#[derive(Debug)]
pub struct SimQueue {
    engine: Engine,
    stream: StreamId,
    pool: PoolId,
    own_pool: bool,
    scratch: GatherScratch,
}

impl SimQueue {
    /// Opens a stream of `engine`: one call for the pool and one for the stream.
    ///
    /// # Errors
    /// What the engine answered; a pool that was created is destroyed again.
    #[inline]
    pub(crate) fn open(engine: Engine, options: &StreamOptions) -> Result<SimQueue, DriverError> {
        let (pool, own_pool) = match options.pool {
            Pool::Default => (engine.default_pool().map_err(failed(Call::DeviceGetDefaultMemPool))?, false),
            Pool::Own { release_threshold } => {
                (engine.pool_create(release_threshold).map_err(failed(Call::MemPoolCreate))?, true)
            }
        };
        match engine.stream_create(options.priority) {
            Ok(stream) => {
                engine.pools().open(pool);
                Ok(SimQueue { engine, stream, pool, own_pool, scratch: GatherScratch::default() })
            }
            Err(code) => {
                if own_pool {
                    // The failure that is reported is the one that came first.
                    let _ = engine.pool_destroy(pool);
                }
                Err(failed(Call::StreamCreate)(code))
            }
        }
    }

    /// The engine the stream belongs to.
    #[inline]
    #[must_use]
    pub const fn engine(&self) -> &Engine {
        &self.engine
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

    /// Enqueues `task`.
    ///
    /// # Errors
    /// What the engine answered; the task was dropped then.
    #[inline]
    pub fn launch(&self, task: Task) -> Result<(), DriverError> {
        self.launch_using(task, &[])
    }

    /// Enqueues `task`, which touches the memory that `uses` say.
    ///
    /// # Errors
    /// As for [`launch`](SimQueue::launch).
    #[inline]
    pub fn launch_using(&self, task: Task, uses: &[Use]) -> Result<(), DriverError> {
        self.engine.launch_using(self.stream, task, uses).map_err(failed(Call::LaunchKernel))
    }
}

impl Sealed for SimQueue {}

// SAFETY:
// - A stream of the engine is a thread that runs its operations one after the other, each on the ranges it was enqueued
//   with.
// - A call answers with an error before it submits anything; rows by numbers are submissions of their own, before the rest.
// - The heap gives out ranges of its own table, at multiples of 512, until their free, which the engine checks.
// - Waits and queries look at the tickets that the stream's thread has passed, with acquire.
// - `address` is that of the engine's state, and a handle is looked up in the engine that it belongs to.
// - The engine answers with codes, and unwinds nowhere.
unsafe impl Queue for SimQueue {
    type Event = EventId;
    type Remote = SimRemote;

    #[inline]
    fn remote(&self) -> SimRemote {
        SimRemote { engine: self.engine.clone() }
    }

    #[inline]
    fn device_id(&self) -> usize {
        self.engine.address()
    }

    #[inline]
    fn ordinal(&self) -> usize {
        self.engine.ordinal()
    }

    #[inline]
    fn alloc(&self, bytes: NonZero<usize>) -> Result<NonNull<u8>, DriverError> {
        let answer = self.engine.mem_alloc_async(bytes.get(), self.pool, self.stream);
        answer.map_err(failed(Call::MemAllocFromPoolAsync))
    }

    #[inline]
    unsafe fn free(&self, ptr: NonNull<u8>) -> Result<(), DriverError> {
        // SAFETY: the caller promises that work on the memory is ordered before the queue's next operation.
        let answer = unsafe { self.engine.mem_free_async(ptr.as_ptr(), self.stream) };
        answer.map_err(failed(Call::MemFreeAsync))
    }

    #[inline]
    fn alloc_sync(&self, bytes: NonZero<usize>) -> Result<NonNull<u8>, DriverError> {
        self.engine.mem_alloc(bytes.get()).map_err(failed(Call::MemAlloc))
    }

    #[inline]
    unsafe fn free_sync(&self, ptr: NonNull<u8>) -> Result<(), DriverError> {
        // SAFETY: the caller promises that no work uses the memory.
        let answer = unsafe { self.engine.mem_free(ptr.as_ptr()) };
        answer.map_err(failed(Call::MemFree))
    }

    #[inline]
    unsafe fn register(&self, ptr: *mut u8, bytes: NonZero<usize>, _read_only: bool) -> Result<(), DriverError> {
        // SAFETY: the caller promises that the memory stays.
        let answer = unsafe { self.engine.mem_host_register(ptr, bytes.get()) };
        answer.map_err(failed(Call::MemHostRegister))
    }

    #[inline]
    unsafe fn unregister(&self, ptr: *mut u8) -> Result<(), DriverError> {
        // SAFETY: the caller promises that no work uses the memory.
        let answer = unsafe { self.engine.mem_host_unregister(ptr) };
        answer.map_err(failed(Call::MemHostUnregister))
    }

    #[inline]
    unsafe fn copy(&self, dst: *mut u8, src: *const u8, bytes: NonZero<usize>) -> Result<(), DriverError> {
        // SAFETY: the caller promises of both ranges what the engine asks for.
        let answer = unsafe { self.engine.memcpy_async(dst, src, bytes.get(), self.stream) };
        answer.map_err(failed(Call::MemcpyAsync))
    }

    #[inline]
    unsafe fn fill(&self, dst: *mut u8, value: u8, bytes: NonZero<usize>) -> Result<(), DriverError> {
        // SAFETY: the caller promises that nothing conflicts with the fill.
        let answer = unsafe { self.engine.memset_d8_async(dst, value, bytes.get(), self.stream) };
        answer.map_err(failed(Call::MemsetD8Async))
    }

    #[inline]
    unsafe fn batch(&self, copies: Copies<'_>) -> Result<(), DriverError> {
        for m in copies.moves.all().iter().filter(|m| m.numbers.is_none()) {
            // SAFETY: the caller keeps the same contract.
            unsafe { self.move_rows(m) }?;
        }
        self.scratch.expanded(&copies, |&Copies { dst, src, len, during_call, .. }| {
            if len.is_empty() {
                return Ok(());
            }
            // SAFETY: the caller promises of each copy what the engine asks for; moves were written out as the copies they are.
            let answer = unsafe { self.engine.memcpy_batch_async(dst, src, len, during_call, self.stream) };
            answer.map_err(failed(Call::MemcpyBatchAsync))
        })
    }

    #[inline]
    fn create_event(&self) -> Result<EventId, DriverError> {
        self.engine.event_create().map_err(failed(Call::EventCreate))
    }

    #[inline]
    fn destroy_event(&self, event: EventId) {
        // A refused event stays with the engine, which reports it.
        let _ = self.engine.event_destroy(event);
    }

    #[inline]
    fn spares(&self) -> &Spares<EventId> {
        self.engine.spares()
    }

    #[inline]
    fn record(&self, event: EventId) -> Result<(), DriverError> {
        self.engine.event_record(event, self.stream).map_err(failed(Call::EventRecord))
    }

    #[inline]
    fn wait(&self, event: EventId) -> Result<(), DriverError> {
        self.engine.stream_wait_event(self.stream, event).map_err(failed(Call::StreamWaitEvent))
    }

    #[inline]
    fn query(&self, event: EventId) -> Result<bool, DriverError> {
        self.engine.event_query(event).map_err(failed(Call::EventQuery))
    }

    #[inline]
    fn observe(&self, event: EventId) -> Result<(), DriverError> {
        self.engine.event_synchronize(event).map_err(failed(Call::EventSynchronize))
    }

    #[inline]
    fn is_idle(&self) -> Result<bool, DriverError> {
        self.engine.stream_query(self.stream).map_err(failed(Call::StreamQuery))
    }

    #[inline]
    fn synchronize(&self) -> Result<(), DriverError> {
        self.engine.stream_synchronize(self.stream).map_err(failed(Call::StreamSynchronize))
    }

    #[inline]
    unsafe fn loans_end(&self) {
        self.engine.loans_end(self.stream);
    }

    #[inline]
    fn trim(&self, keep: usize) -> Result<(), DriverError> {
        self.engine.pool_trim_to(self.pool, keep).map_err(failed(Call::MemPoolTrimTo))
    }

    fn trim_others(&self) -> bool {
        let mut are_there = false;
        self.engine.pools().each(|pool| {
            if pool != self.pool {
                are_there = true;
                let _ = self.engine.pool_trim_to(pool, 0);
            }
        });
        are_there
    }

    fn cached(&self) -> Result<usize, DriverError> {
        let mut cached = Ok(0_usize);
        self.engine.pools().each(|pool| {
            cached = cached.and_then(|sum| {
                let usage = self.engine.pool_usage(pool).map_err(failed(Call::MemPoolGetAttribute))?;
                Ok(sum.saturating_add(usage.reserved.saturating_sub(usage.used)))
            });
        });
        cached
    }

    #[inline]
    fn memory_info(&self) -> Result<(usize, usize), DriverError> {
        self.engine.mem_get_info().map_err(failed(Call::MemGetInfo))
    }
}

impl Drop for SimQueue {
    #[inline]
    fn drop(&mut self) {
        // What is refused stays with the engine, which reports it; there is nobody to tell here.
        let _ = self.engine.stream_destroy(self.stream);
        self.engine.pools().close(self.pool);
        if self.own_pool {
            let _ = self.engine.pool_destroy(self.pool);
        }
    }
}

/// A simulated device, as memory that outlives its streams sees it.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct SimRemote {
    engine: Engine,
}

impl Sealed for SimRemote {}

// SAFETY:
// - The engine lives as long as a handle of it.
// - As for the queue; `doom` sets a flag of the engine that nothing clears.
unsafe impl Remote for SimRemote {
    type Event = EventId;

    #[inline]
    fn device_id(&self) -> usize {
        self.engine.address()
    }

    #[inline]
    fn observe(&self, event: EventId) -> Result<(), DriverError> {
        self.engine.event_synchronize(event).map_err(failed(Call::EventSynchronize))
    }

    #[inline]
    fn destroy_event(&self, event: EventId) {
        // A refused event stays with the engine, which reports it.
        let _ = self.engine.event_destroy(event);
    }

    #[inline]
    fn spares(&self) -> &Spares<EventId> {
        self.engine.spares()
    }

    #[inline]
    unsafe fn free(&self, ptr: NonNull<u8>) -> Result<(), DriverError> {
        // SAFETY: the caller promises that no work uses the memory.
        let answer = unsafe { self.engine.mem_free(ptr.as_ptr()) };
        answer.map_err(failed(Call::MemFree))
    }

    #[inline]
    unsafe fn free_behind(&self, event: EventId, memory: Option<NonNull<u8>>) -> bool {
        // SAFETY:
        // - The caller keeps the same contract.
        unsafe { self.engine.free_behind(event, memory) }
    }

    #[inline]
    fn doom(&self) {
        self.engine.doom();
    }

    #[inline]
    fn is_doomed(&self) -> bool {
        self.engine.is_doomed()
    }
}

/// Turns an answer of `call` into an error that names it.
fn failed(call: Call) -> impl Fn(Code) -> DriverError {
    move |code| DriverError::new(call.name(), code)
}
