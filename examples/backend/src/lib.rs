//! A complete backend outside the library, which uses the driver contract only.
//!
//! Device memory is host memory, and work runs during the call that enqueues it. The contract
//! allows that: every operation is over before the next one begins, every event has been passed
//! when it is recorded, and a wait returns at once. The SAFETY comments cite the clauses of
//! `doc/driver-contract.md`.
//!
//! To write a backend of your own, start from the three `unsafe impl`s below: [`Backend`],
//! [`RawDevice`] and [`RawStream`]. [`HostFns`] adds closures as kernels.
//!
//! ```
//! use tidelock::Device;
//! use tidelock_example_backend::HostDevice;
//!
//! let doubled = HostDevice::new(1 << 20).stream(|mut stream, _env| {
//!     let ctx = stream.ctx().with_pool();
//!     let mut x = ctx.upload_new(&[1_u32, 2, 3])?;
//!     ctx.launch((x.view_mut(), 2_u32), |(x, factor)| x.iter_mut().for_each(|x| *x *= factor))?;
//!     let out = ctx.init_from(ctx.alloc_pinned(3)?.stage(&ctx), x.view())?;
//!     Ok::<_, tidelock::Error>(out.reclaim(&stream.synchronize()?).to_vec())
//! })??;
//! assert_eq!(doubled, [2, 4, 6]);
//! # Ok::<(), tidelock::Error>(())
//! ```
#![deny(unsafe_op_in_unsafe_fn)]
#![warn(missing_docs, clippy::undocumented_unsafe_blocks)]

use std::{
    alloc::{self, Layout},
    collections::HashMap,
    mem,
    num::NonZero,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr::{self, NonNull},
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tidelock::driver::{
    ALIGN, Allocation, Backend, Code, CopyBatch, DeviceState, DriverError, HostFns, KernelUse, OpenOptions, Operands,
    PinnedPool, RawDevice, RawStream, SameAddress,
};

/// The family of devices whose memory is host memory.
#[derive(Clone, Copy, Debug)]
pub enum HostBackend {}

/// A device, whose memory is host memory.
#[derive(Clone, Debug)]
pub struct HostDevice {
    shared: Arc<Shared>,
}

/// The state that the clones of a device and its streams share.
#[derive(Debug)]
struct Shared {
    state: DeviceState,
    ordinal: usize,
    /// The size of the device's memory in bytes.
    total: usize,
    /// The code with which the device broke, and 0 before that.
    broken: AtomicU32,
    /// The live allocations: address and layout.
    memory: Mutex<HashMap<usize, Layout>>,
    /// The number of live events.
    events: Mutex<usize>,
    /// When each timed event was recorded last, by its number.
    times: Mutex<HashMap<u64, Instant>>,
    /// The number of timed events so far.
    timed: AtomicU64,
}

/// An event. Work runs during the call, so that every record is passed at once. A timed event has a
/// number, and others have 0.
#[derive(Clone, Copy, Debug)]
pub struct Event(u64);

/// A stream.
#[derive(Debug)]
pub struct HostStream {
    device: HostDevice,
}

impl HostDevice {
    /// A device with `total` bytes of memory.
    #[must_use]
    pub fn new(total: usize) -> Self {
        HostDevice::with_ordinal(total, 0)
    }

    /// A device with `total` bytes of memory, and `ordinal` for messages.
    #[must_use]
    pub fn with_ordinal(total: usize, ordinal: usize) -> Self {
        HostDevice {
            shared: Arc::new(Shared {
                state: DeviceState::new(),
                ordinal,
                total,
                broken: AtomicU32::new(0),
                memory: Mutex::default(),
                events: Mutex::default(),
                times: Mutex::default(),
                timed: AtomicU64::new(0),
            }),
        }
    }

    /// The number of live allocations and events. Both are 0 once all streams have ended and all
    /// memory is freed.
    #[must_use]
    pub fn live(&self) -> (usize, usize) {
        (self.memory().len(), *self.events())
    }

    /// Fails once the device is broken (F4).
    fn check(&self, call: &'static str) -> Result<(), DriverError> {
        match self.shared.broken.load(Ordering::Acquire) {
            0 => Ok(()),
            code => Err(DriverError::new(call, Code(code))),
        }
    }

    fn memory(&self) -> MutexGuard<'_, HashMap<usize, Layout>> {
        self.shared.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn events(&self) -> MutexGuard<'_, usize> {
        self.shared.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn times(&self) -> MutexGuard<'_, HashMap<u64, Instant>> {
        self.shared.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn allocate(&self, bytes: NonZero<usize>) -> Result<NonNull<u8>, DriverError> {
        self.check("alloc")?;
        let refused = DriverError::new("alloc", Code::OUT_OF_MEMORY);
        let layout = Layout::from_size_align(bytes.get(), ALIGN).map_err(|_| refused)?;
        let mut memory = self.memory();
        let used = memory.values().map(Layout::size).sum::<usize>();
        if layout.size() > self.shared.total.saturating_sub(used) {
            return Err(refused);
        }
        // SAFETY:
        // - The size is not 0.
        let ptr = NonNull::new(unsafe { alloc::alloc(layout) }).ok_or(refused)?;
        memory.insert(ptr.addr().get(), layout);
        Ok(ptr)
    }

    /// Frees memory of [`allocate`](HostDevice::allocate).
    ///
    /// # Safety
    /// - `ptr` comes from `allocate` of this device and was not freed before. Nothing uses the
    ///   memory any more.
    unsafe fn release(&self, ptr: NonNull<u8>) -> Result<(), DriverError> {
        self.check("free")?;
        if let Some(layout) = self.memory().remove(&ptr.addr().get()) {
            // SAFETY:
            // - The memory comes from `alloc` with this layout, and is removed from the list here,
            //   once.
            unsafe { alloc::dealloc(ptr.as_ptr(), layout) }
        }
        Ok(())
    }
}

// SAFETY:
// - P1, P2: page-locked memory is fresh, aligned memory of the global allocator. Every device of
//   the family can use it.
// - P3: `unpin` returns it to the global allocator.
// - P4: the backend does not check order. The provided functions do nothing.
// - P5: the pool is one `static`.
unsafe impl Backend for HostBackend {
    type Device = HostDevice;
    type Stream = HostStream;
    type Event = Event;

    const PINNED: &'static PinnedPool<Self> = {
        static POOL: PinnedPool<HostBackend> = PinnedPool::new();
        &POOL
    };

    fn pin(bytes: NonZero<usize>) -> Result<NonNull<u8>, DriverError> {
        let refused = DriverError::new("pin", Code::OUT_OF_MEMORY);
        let layout = Layout::from_size_align(bytes.get(), ALIGN).map_err(|_| refused)?;
        // SAFETY:
        // - The size is not 0.
        let ptr = NonNull::new(unsafe { alloc::alloc(layout) }).ok_or(refused)?;
        pinned().insert(ptr.addr().get(), layout);
        Ok(ptr)
    }

    unsafe fn unpin(ptr: NonNull<u8>) -> Result<(), DriverError> {
        let layout = pinned().remove(&ptr.addr().get()).ok_or(DriverError::new("unpin", Code::INVALID_VALUE))?;
        // SAFETY:
        // - The memory comes from `pin` with this layout, and is removed from the list here, once.
        //   The caller promises that nothing uses it (P3).
        unsafe { alloc::dealloc(ptr.as_ptr(), layout) };
        Ok(())
    }
}

/// The page-locked memory of the family: address and layout.
fn pinned() -> MutexGuard<'static, HashMap<usize, Layout>> {
    static PINNED: LazyLock<Mutex<HashMap<usize, Layout>>> = LazyLock::new(Mutex::default);
    PINNED.lock().unwrap_or_else(PoisonError::into_inner)
}

// SAFETY:
// - D1, D7: the device state is part of what the clones share, which lives as long as any of them.
// - D2: a stream has no state of its own and no order with others. Its work runs during its calls.
// - D3: what the clones share is atomic or behind a lock.
// - D4, D5: memory and events belong to the device, and the typed layer keeps a clone of it as long
//   as it has any. D6, D8, D9 and D10 are provided: work runs during its call, and waits for
//   nothing.
unsafe impl RawDevice for HostDevice {
    type Backend = HostBackend;

    fn shared(&self) -> &DeviceState {
        &self.shared.state
    }

    fn ordinal(&self) -> usize {
        self.shared.ordinal
    }

    fn open(&self, _: &OpenOptions) -> Result<HostStream, DriverError> {
        self.check("open")?;
        Ok(HostStream { device: self.clone() })
    }

    fn memory_info(&self) -> Result<(usize, usize), DriverError> {
        self.check("memory_info")?;
        let used = self.memory().values().map(Layout::size).sum::<usize>();
        Ok((self.shared.total.saturating_sub(used), self.shared.total))
    }

    unsafe fn wait_event(&self, _: Event) -> Result<(), DriverError> {
        self.check("wait_event")
    }

    unsafe fn destroy_event(&self, event: Event) {
        *self.events() -= 1;
        self.times().remove(&event.0);
    }

    unsafe fn free(&self, ptr: NonNull<u8>) -> Result<(), DriverError> {
        // SAFETY:
        // - The caller promises that `ptr` comes from `alloc` of a stream of this device, and that
        //   no work uses it (D4).
        unsafe { self.release(ptr) }
    }
}

// SAFETY:
// - S1 to S5: a stream is `Send`, a call uses its device only, and dropping a stream does nothing.
//   The only code of the caller is in host functions, whose panics are caught. S6: there is no
//   driver to initialise. S7 and S8 are provided.
// - P6, P7: host memory needs no page-locking, so that `register` and `unregister` change nothing.
// - M1 to M7: memory is fresh memory of the global allocator with the requested size, until it is
//   freed. All work that was enqueued before a free is over when the free is called. M8 to M11 are
//   provided.
// - O1 to O5: work runs during the call, one operation after the other. All addresses are host
//   addresses, so that a copy treats all kinds of memory alike. O12: `batch` copies each run. O6 to
//   O11: `TAKES` names no further operands.
// - E1 to E5, E7: a record has been passed when it is made, so that a wait returns at once. E6 is
//   provided. E8, E9: the record of a timed event takes the time of the host's monotonic clock.
// - H1 to H3: at every wait all work is over. What another thread's stream wrote is visible to
//   threads that are ordered behind that thread on the host, and the typed layer lets no other
//   thread use it.
// - F1 to F6: a call fails before it does anything, and a broken device stays broken. F7, F8: a
//   batch is plain copies and runs one by one.
unsafe impl RawStream for HostStream {
    type Backend = HostBackend;

    const TAKES: Operands = Operands::STRIDED_COPIES;

    fn device(&self) -> &HostDevice {
        &self.device
    }

    fn alloc(&self, request: Allocation) -> Result<NonNull<u8>, DriverError> {
        self.device.allocate(request.bytes)
    }

    unsafe fn free(&self, ptr: NonNull<u8>) -> Result<(), DriverError> {
        // SAFETY:
        // - The caller promises that `ptr` comes from `alloc` of a stream of this device (M5). Work
        //   that uses it is ordered before, so that it is over.
        unsafe { self.device.release(ptr) }
    }

    unsafe fn register(&self, _: *mut u8, _: NonZero<usize>, _: bool) -> Result<(), DriverError> {
        self.device.check("register")
    }

    unsafe fn unregister(&self, _: *mut u8) -> Result<(), DriverError> {
        self.device.check("unregister")
    }

    unsafe fn copy(&self, dst: *mut u8, src: *const u8, bytes: NonZero<usize>) -> Result<(), DriverError> {
        self.device.check("copy")?;
        // SAFETY:
        // - C1 to C4: both ranges are live, each lies in one piece of memory, they do not overlap,
        //   and no access conflicts.
        unsafe { ptr::copy_nonoverlapping(src, dst, bytes.get()) };
        Ok(())
    }

    unsafe fn fill(&self, dst: *mut u8, value: u8, bytes: NonZero<usize>) -> Result<(), DriverError> {
        self.device.check("fill")?;
        // SAFETY:
        // - C1, C2 and C4, as for a copy.
        unsafe { ptr::write_bytes(dst, value, bytes.get()) };
        Ok(())
    }

    unsafe fn batch(&self, batch: CopyBatch<'_>) -> Result<(), DriverError> {
        for (dst, src, bytes) in batch.iter() {
            // SAFETY:
            // - The caller keeps the contract of `copy` for each of them.
            unsafe { self.copy(dst, src, bytes) }?;
        }
        for (dst, src, bytes) in batch.strided.runs() {
            let Some(bytes) = NonZero::new(bytes) else { continue };
            // SAFETY:
            // - O12: C1 to C4 hold for each run.
            unsafe { self.copy(dst, src, bytes) }?;
        }
        Ok(())
    }

    fn create_event(&self) -> Result<Event, DriverError> {
        self.device.check("create_event")?;
        *self.device.events() += 1;
        Ok(Event(0))
    }

    fn create_timed_event(&self) -> Result<Event, DriverError> {
        self.device.check("create_timed_event")?;
        *self.device.events() += 1;
        Ok(Event(self.device.shared.timed.fetch_add(1, Ordering::Relaxed) + 1))
    }

    unsafe fn elapsed(&self, start: Event, end: Event) -> Result<Duration, DriverError> {
        self.device.check("elapsed")?;
        let times = self.device.times();
        match (times.get(&start.0), times.get(&end.0)) {
            (Some(start), Some(end)) => Ok(end.saturating_duration_since(*start)),
            _ => Err(DriverError::new("elapsed", Code::INVALID_HANDLE)),
        }
    }

    unsafe fn record(&self, event: Event) -> Result<(), DriverError> {
        self.device.check("record")?;
        if event.0 != 0 {
            self.device.times().insert(event.0, Instant::now());
        }
        Ok(())
    }

    unsafe fn wait(&self, _: Event) -> Result<(), DriverError> {
        self.device.check("wait")
    }

    unsafe fn has_passed(&self, _: Event) -> Result<bool, DriverError> {
        self.device.check("has_passed")?;
        Ok(true)
    }

    fn is_idle(&self) -> Result<bool, DriverError> {
        self.device.check("is_idle")?;
        Ok(true)
    }

    fn synchronize(&self) -> Result<(), DriverError> {
        self.device.check("synchronize")
    }
}

// SAFETY:
// - L1, L2: the function runs once, during the call, or is dropped.
// - L4: an error or a panic of the function breaks the device, and the panic is caught here. A code
//   that is not sticky becomes `LAUNCH_FAILED`, which is.
// - L5: `SameAddress` keeps it.
unsafe impl HostFns for HostStream {
    type Memory = SameAddress;

    unsafe fn run(
        &self,
        f: impl FnOnce(&SameAddress) -> Result<(), Code> + Send + 'static,
        _: impl FnOnce(&mut dyn FnMut(KernelUse)),
    ) -> Result<(), DriverError> {
        self.device.check("run")?;
        // SAFETY:
        // - Device addresses of the backend are host addresses.
        let memory = unsafe { SameAddress::new() };
        let code = match catch_unwind(AssertUnwindSafe(|| f(&memory))) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(code)) if code.is_sticky() => code,
            Ok(Err(_)) => Code::LAUNCH_FAILED,
            Err(payload) => {
                // A payload may panic when it is dropped.
                mem::forget(payload);
                Code::LAUNCH_FAILED
            }
        };
        self.device.shared.broken.store(code.0, Ordering::Release);
        Ok(())
    }
}

/// Streams of this backend do not report when they pass a point, so that the engine loop draws its
/// own steps only.
#[cfg(feature = "engine")]
impl tidelock_continuous_batching::recorder::Timed for HostBackend {}
