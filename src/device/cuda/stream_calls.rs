//! The calls on one CUDA stream, each of which is the driver call it is named after.
//!
//! The copy engine makes its calls through these, and so does [`CudaStream`](super::CudaStream),
//! which owns both.

use core::{
    cell::Cell,
    ffi::{c_int, c_uint},
    num::NonZero,
    ptr::{self, NonNull},
    time::Duration,
};

use tidelock_driver::{Code, DriverError};

use super::{
    context::{Context, given},
    driver::{Answer, Handle},
    event::{DEFAULT, DISABLE_TIMING, Event},
    handle::DriverObject,
    pool::PoolHandle,
};

/// A stream of a CUDA context, with the pool it allocates from. One thread uses it at a time.
///
/// It is never the legacy default stream, nor the handle of a thread's own stream.
#[derive(Debug)]
pub(super) struct StreamCalls {
    pub(super) context: Context,
    /// Invariant: a live stream of the context, until [`destroy`](StreamCalls::destroy).
    stream: DriverObject,
    /// Invariant: a live pool of the stream's device. `None` on devices that have no pools.
    pub(super) pool: Option<PoolHandle>,
    seen: Cell<Seen>,
}

/// How far the work that was enqueued through this value is known to have ended. Others may use the
/// stream too. So this proves that memory is unused only for memory that no other work uses;
/// elsewhere it decides how something is done, not whether it may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// There may be work left.
    Nothing,
    /// As before, and all of it lies before this event, recorded last.
    Upto(Event),
    /// All work was seen to have ended.
    All,
}

impl StreamCalls {
    /// Creates a stream that allocates from `pool`. A priority the device does not have is clamped
    /// by the driver: "If the specified priority is outside the numerical range returned by
    /// cuCtxGetStreamPriorityRange, it will automatically be clamped to the lowest or the highest
    /// number in the range" (CUDA driver manual 13.0).
    ///
    /// The pool is alive as long as the stream.
    pub(super) fn create(
        context: Context,
        priority: c_int,
        pool: Option<PoolHandle>,
    ) -> Result<StreamCalls, DriverError> {
        let mut stream: Handle = ptr::null_mut();
        let create = context.driver.table.stream_create;
        // SAFETY:
        // - `stream` is valid for a write.
        context.enter("cuStreamCreateWithPriority", || unsafe { create(&mut stream, NON_BLOCKING, priority) })?;
        let stream = DriverObject(given("cuStreamCreateWithPriority", stream)?);
        Ok(StreamCalls { context, stream, pool, seen: Cell::new(Seen::All) })
    }

    /// A stream that was made elsewhere, and allocates from `pool`.
    ///
    /// # Safety
    /// - It is a live stream of `context`, and no default stream.
    pub(super) unsafe fn adopted(context: Context, stream: DriverObject, pool: Option<PoolHandle>) -> StreamCalls {
        StreamCalls { context, stream, pool, seen: Cell::new(Seen::Nothing) }
    }

    /// Destroys the stream; nothing is called on it afterwards. Errors are ignored.
    pub(super) fn destroy(&mut self) {
        let destroy = self.context.driver.table.stream_destroy;
        // SAFETY:
        // - The stream is this value's alone and is gone after this; "In case the device is still
        //   doing work in the stream hStream when cuStreamDestroy() is called, the function will
        //   return immediately and the resources associated with hStream will be released
        //   automatically once the device has completed all work" (manual 13.0).
        let _ = self.context.on_stream("cuStreamDestroy", || unsafe { destroy(self.raw()) });
    }

    /// The `CUstream`.
    #[inline]
    pub(super) const fn raw(&self) -> Handle {
        self.stream.raw()
    }

    /// Makes a call that enqueues work on the stream.
    #[inline]
    pub(super) fn on_stream(&self, name: &'static str, call: impl Fn() -> Answer) -> Result<(), DriverError> {
        self.seen.set(Seen::Nothing);
        self.context.on_stream(name, call)
    }

    /// Makes a call that enqueues copies on the stream.
    #[inline]
    pub(super) fn copying(&self, name: &'static str, call: impl Fn() -> Answer) -> Result<(), DriverError> {
        self.seen.set(Seen::Nothing);
        self.context.copying(name, call)
    }

    /// Whether all work that was enqueued through this value was seen to have ended.
    #[inline]
    pub(super) fn seems_idle(&self) -> bool {
        self.seen.get() == Seen::All
    }

    /// The stream has passed `event`.
    #[inline]
    fn has_passed(&self, event: Event) {
        if self.seen.get() == Seen::Upto(event) {
            self.seen.set(Seen::All);
        }
    }

    /// As `RawStream::alloc`.
    #[inline]
    pub(super) fn alloc(&self, bytes: NonZero<usize>) -> Result<NonNull<u8>, DriverError> {
        let Some(pool) = self.pool else { return self.alloc_now(bytes) };
        let alloc = self.context.driver.table.mem_alloc_from_pool_async;
        let address = Cell::new(ptr::null_mut());
        // SAFETY:
        // - `address` is valid for a write; pool and stream are alive, by the invariants of the
        //   type.
        self.context.on_stream("cuMemAllocFromPoolAsync", || unsafe {
            alloc(address.as_ptr(), bytes.get(), pool.0.raw(), self.raw())
        })?;
        given("cuMemAllocFromPoolAsync", address.get())
    }

    /// As `RawStream::free`.
    ///
    /// # Safety
    /// - `ptr` comes from `alloc` of a stream of this device and was not freed before.
    /// - Work that uses it comes earlier in this stream, or is ordered before it.
    #[inline]
    pub(super) unsafe fn free(&self, ptr: NonNull<u8>) -> Result<(), DriverError> {
        if self.pool.is_none() {
            self.synchronize()?;
            // SAFETY:
            // - The caller promises that `ptr` comes from `alloc`, which is `alloc_now` here, and
            //   that the work that uses it comes earlier in the stream, which was waited for.
            return unsafe { self.free_now(ptr) };
        }
        let free = self.context.driver.table.mem_free_async;
        // SAFETY:
        // - The caller promises that `ptr` comes from `alloc` and that work on it is ordered
        //   before: "the free operation is performed in stream order" is what the call does (CUDA
        //   driver manual 13.0, stream ordered allocator).
        self.context.on_stream("cuMemFreeAsync", || unsafe { free(ptr.as_ptr(), self.raw()) })
    }

    /// As `RawStream::alloc_now`.
    #[inline]
    pub(super) fn alloc_now(&self, bytes: NonZero<usize>) -> Result<NonNull<u8>, DriverError> {
        let alloc = self.context.driver.table.mem_alloc;
        let mut address = ptr::null_mut();
        // SAFETY:
        // - `address` is valid for a write.
        self.context.enter("cuMemAlloc", || unsafe { alloc(&mut address, bytes.get()) })?;
        given("cuMemAlloc", address)
    }

    /// As `RawStream::free_now`.
    ///
    /// # Safety
    /// - `ptr` comes from `alloc_now` of a stream of this device, or from `alloc` of one without a
    ///   pool, and was not freed before.
    /// - No work that is still running uses it.
    #[inline]
    pub(super) unsafe fn free_now(&self, ptr: NonNull<u8>) -> Result<(), DriverError> {
        let free = self.context.driver.table.mem_free;
        // SAFETY:
        // - The caller promises that `ptr` comes from `alloc_now` and that no work uses it.
        self.context.enter("cuMemFree", || unsafe { free(ptr.as_ptr()) })
    }

    /// As `RawStream::copy`.
    ///
    /// # Safety
    /// - Both ranges lie in one allocation each, are valid until the stream has passed the copy,
    ///   and do not overlap.
    /// - No other work or host access conflicts with it that is not ordered against this stream.
    #[inline]
    pub(super) unsafe fn copy(&self, dst: *mut u8, src: *const u8, bytes: NonZero<usize>) -> Result<(), DriverError> {
        let copy = self.context.driver.table.memcpy_async;
        // SAFETY:
        // - The caller promises that both ranges are valid until the stream has passed the copy,
        //   and in order.
        // - The driver distinguishes host and device addresses: `open` accepts only devices with
        //   unified addressing.
        self.copying("cuMemcpyAsync", || unsafe { copy(dst, src, bytes.get(), self.raw()) })
    }

    /// As `RawStream::fill`.
    ///
    /// # Safety
    /// As for [`copy`](StreamCalls::copy), for `dst`.
    #[inline]
    pub(super) unsafe fn fill(&self, dst: *mut u8, value: u8, bytes: NonZero<usize>) -> Result<(), DriverError> {
        let fill = self.context.driver.table.memset_d8_async;
        // SAFETY:
        // - The caller promises that the range is valid until the stream has passed the fill, and
        //   in order.
        self.on_stream("cuMemsetD8Async", || unsafe { fill(dst, value, bytes.get(), self.raw()) })
    }

    /// As `RawStream::create_event`.
    #[inline]
    pub(super) fn create_event(&self) -> Result<Event, DriverError> {
        Event::create(self.context, DISABLE_TIMING)
    }

    /// As `RawStream::create_events`.
    #[inline]
    pub(super) fn create_events(&self, places: &mut [Option<Event>]) -> Result<(), DriverError> {
        Event::create_each(self.context, DISABLE_TIMING, places)
    }

    /// As `RawStream::create_timed_event`.
    #[inline]
    pub(super) fn create_timed_event(&self) -> Result<Event, DriverError> {
        Event::create(self.context, DEFAULT)
    }

    /// As `RawStream::record`.
    #[inline]
    pub(super) fn record(&self, event: Event) -> Result<(), DriverError> {
        let record = self.context.driver.table.event_record;
        // SAFETY:
        // - Event and stream are alive, and of one context: events of a stream stay with its
        //   context.
        self.context.on_stream("cuEventRecord", || unsafe { record(event.0.raw(), self.raw()) })?;
        if !self.seems_idle() {
            self.seen.set(Seen::Upto(event));
        }
        Ok(())
    }

    /// As `RawStream::wait`.
    ///
    /// # Safety
    /// - The event is alive and of the context.
    #[inline]
    pub(super) unsafe fn wait(&self, event: Event) -> Result<(), DriverError> {
        let wait = self.context.driver.table.stream_wait_event;
        // SAFETY:
        // - The caller promises that the event is alive and of the context; the stream is alive;
        //   the flags are 0, the default.
        self.on_stream("cuStreamWaitEvent", || unsafe { wait(self.raw(), event.0.raw(), 0) })
    }

    /// As `RawStream::has_passed`.
    #[inline]
    pub(super) fn query(&self, event: Event) -> Result<bool, DriverError> {
        let answer = event.query(self.context)?;
        if answer {
            self.has_passed(event);
        }
        Ok(answer)
    }

    /// As `RawStream::wait_event`.
    #[inline]
    pub(super) fn observe(&self, event: Event) -> Result<(), DriverError> {
        event.observe(self.context)?;
        self.has_passed(event);
        Ok(())
    }

    /// As `RawStream::elapsed`.
    #[inline]
    pub(super) fn elapsed(&self, start: Event, end: Event) -> Result<Duration, DriverError> {
        let refused = DriverError::new("cuEventElapsedTime", Code::NOT_SUPPORTED);
        let elapsed = self.context.driver.elapsed_time.ok_or(refused)?;
        let milliseconds = Cell::new(0.0);
        // SAFETY:
        // - `milliseconds` is valid for a write, and both events are alive.
        let call = || unsafe { elapsed(milliseconds.as_ptr(), start.0.raw(), end.0.raw()) };
        self.context.on_stream("cuEventElapsedTime", call)?;
        // A number that is no duration, such as a negative one, counts as no time.
        Ok(Duration::try_from_secs_f64(f64::from(milliseconds.get()) / 1e3).unwrap_or_default())
    }

    /// As `RawStream::is_idle`.
    #[inline]
    pub(super) fn is_idle(&self) -> Result<bool, DriverError> {
        let query = self.context.driver.table.stream_query;
        // SAFETY:
        // - The stream is alive.
        let answer = passed(self.context.on_stream("cuStreamQuery", || unsafe { query(self.raw()) }))?;
        if answer {
            self.seen.set(Seen::All);
        }
        Ok(answer)
    }

    /// As `RawStream::synchronize`.
    #[inline]
    pub(super) fn synchronize(&self) -> Result<(), DriverError> {
        let wait = self.context.driver.table.stream_synchronize;
        // SAFETY:
        // - The stream is alive.
        self.context.on_stream("cuStreamSynchronize", || unsafe { wait(self.raw()) })?;
        self.seen.set(Seen::All);
        Ok(())
    }
}

/// `CU_STREAM_NON_BLOCKING`: no order between the stream and the legacy default stream.
const NON_BLOCKING: c_uint = 1;

#[cfg(any(test, tidelock_declarations))]
mod declared {
    use super::*;
    use crate::device::cuda::declarations::same_number;

    same_number!(NON_BLOCKING, CUstream_flags::CU_STREAM_NON_BLOCKING);
}

/// The answer of a query: `NOT_READY` is `false`.
pub(super) fn passed(answer: Result<(), DriverError>) -> Result<bool, DriverError> {
    match answer {
        Ok(()) => Ok(true),
        Err(error) if error.code == Code::NOT_READY => Ok(false),
        Err(error) => Err(error),
    }
}
