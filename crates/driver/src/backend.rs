//! Families of devices, devices, and the state that the typed layer keeps for each device.

use core::{
    any::Any,
    fmt::Debug,
    num::NonZero,
    ptr::NonNull,
    sync::atomic::{AtomicUsize, Ordering},
};
use std::sync::Arc;

use crate::{
    code::DriverError,
    options::{OpenOptions, Pool},
    pinned::PinnedPool,
    stream::RawStream,
    sync::{Mutex, lock},
};

/// The device of backend `B`.
pub type DeviceOf<B> = <B as Backend>::Device;
/// The stream of backend `B`.
pub type StreamOf<B> = <B as Backend>::Stream;
/// The event of backend `B`.
pub type EventOf<B> = <B as Backend>::Event;

/// A family of devices that share one kind of page-locked memory. The type only names the family.
/// Unsafe to implement.
///
/// # Safety
/// The implementation keeps clauses P1 to P5 of the driver contract, and S5, S6, F1, F2 and F6 for
/// `pin` and `unpin`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a family of devices",
    label = "expected `sim::SimBackend`, `cuda::CudaBackend` or another backend",
    note = "generic code names the family of its stream: `L::Backend` with `L: DeviceLocation`",
    note = "a backend of your own implements `driver::Backend`, which is unsafe; `examples/backend` is a complete one"
)]
pub unsafe trait Backend: Sized + Copy + Debug + Send + Sync + 'static {
    /// A device.
    type Device: RawDevice<Backend = Self>;
    /// One stream of a device.
    type Stream: RawStream<Backend = Self>;
    /// An event: a plain handle, which [`RawDevice::destroy_event`] alone destroys.
    type Event: Copy + Debug + Send + Sync + 'static;

    /// The pool of page-locked memory of the family: the address of one `static` (P5).
    ///
    /// ```
    /// # mod m { use tidelock_driver::*;
    /// # pub fn of<B: Backend>() -> PinnedUsage {
    /// B::PINNED.usage()
    /// # } }
    /// ```
    const PINNED: &'static PinnedPool<Self>;

    /// Page-locks `bytes` bytes of fresh host memory (P1, P2).
    ///
    /// # Errors
    /// The driver's error.
    fn pin(bytes: NonZero<usize>) -> Result<NonNull<u8>, DriverError>;

    /// Frees memory of [`pin`](Backend::pin) (P3).
    ///
    /// # Errors
    /// The driver's error. The memory may stay locked then, and is not used again (F2).
    ///
    /// # Safety
    /// - `ptr` comes from `pin` of this backend and was not unpinned before.
    /// - Neither the host nor a device uses the memory any more.
    unsafe fn unpin(ptr: NonNull<u8>) -> Result<(), DriverError>;

    /// Informs a backend that checks order that the host touches memory that a stream may have used
    /// (P4). Makes no driver call. Provided: does nothing.
    ///
    /// The backend takes the access as ordered from then on, so that a false report hides a race.
    ///
    /// # Safety
    /// - The calling thread owns or borrows the memory as the access says, and it stays allocated
    ///   during the call.
    /// - All conflicting work was waited for, by this thread or by one that it has synchronised
    ///   with since.
    #[inline]
    unsafe fn host_touches(access: HostAccess) {
        let _ = access;
    }
}

/// A device. Its clones keep it alive, and any thread may use it. Unsafe to implement.
///
/// # Safety
/// The implementation keeps clauses D1 to D10 and M11, S5 and S6, E1, E4, E5 and E7, H1 and H3, and
/// F1 to F6 for the calls of a device.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a device",
    label = "expected `sim::Device`, `cuda::Device` or the device of another backend",
    note = "a device is opened with `sim::Device::default()` or `cuda::Device::open(0)?`",
    note = "a device of your own implements `driver::RawDevice`, which is unsafe; `examples/backend` is a complete backend"
)]
pub unsafe trait RawDevice: Clone + Send + Sync + 'static {
    /// The family.
    type Backend: Backend<Device = Self>;

    /// The state that the typed layer keeps for the device (D7). Its address is the device's
    /// identity (D1).
    fn shared(&self) -> &DeviceState;

    /// The number that the device was opened with, for messages; it is not the device's identity.
    fn ordinal(&self) -> usize;

    /// Opens a stream (D2).
    ///
    /// # Errors
    /// The driver's error.
    fn open(&self, options: &OpenOptions) -> Result<StreamOf<Self::Backend>, DriverError>;

    /// Free and total bytes of the device's memory (M11).
    ///
    /// # Errors
    /// The driver's error.
    fn memory_info(&self) -> Result<(usize, usize), DriverError>;

    /// Blocks the calling thread until `event` has been passed (E4, H1).
    ///
    /// # Errors
    /// The driver's error.
    ///
    /// # Safety
    /// - `event` was created by a stream of this device (E7) and is not destroyed (E5).
    unsafe fn wait_event(&self, event: EventOf<Self::Backend>) -> Result<(), DriverError>;

    /// Destroys an event (E5).
    ///
    /// # Safety
    /// - `event` was created by a stream of this device (E7), was not destroyed before, and is not
    ///   used again.
    unsafe fn destroy_event(&self, event: EventOf<Self::Backend>);

    /// Frees memory of [`RawStream::alloc`], from any thread (D4).
    ///
    /// # Errors
    /// The driver's error. The memory is then leaked, or was freed (F2).
    ///
    /// # Safety
    /// - `ptr` comes from `alloc` of a stream of this device and was not freed before.
    /// - No work that uses it is still to run.
    unsafe fn free(&self, ptr: NonNull<u8>) -> Result<(), DriverError>;

    /// Whether the calling thread executes work of a device, and so must not wait for one (D9).
    /// Makes no driver call. Provided: `false`.
    #[inline]
    #[must_use]
    fn executes_work() -> bool {
        false
    }

    /// Frees memory of [`RawStream::alloc`] once the points that `events` stand for have been passed
    /// (D6). Called from any thread. Provided: waits for them, which a backend whose waits block
    /// replaces.
    ///
    /// # Errors
    /// The driver's error. The memory is then leaked, or was freed (F2).
    ///
    /// # Safety
    /// - `memory` comes from `alloc` of a stream of this device and was not freed before.
    /// - All work that uses it lies before the latest record of one of `events`, or is over.
    /// - Each event was created by a stream of this device (E7) and is not destroyed (E5).
    #[inline]
    unsafe fn free_behind(&self, events: &[EventOf<Self::Backend>], memory: NonNull<u8>) -> Result<(), DriverError> {
        for &event in events {
            // SAFETY:
            // - The caller promises that the event is of this device and alive.
            unsafe { self.wait_event(event) }?;
        }
        // SAFETY:
        // - The caller promises the origin of the memory, and all work on it has been passed (H1).
        unsafe { self.free(memory) }
    }

    /// Whether `event` has been passed (E4, H1). Provided: waits for it, and returns `true`.
    ///
    /// # Errors
    /// The driver's error.
    ///
    /// # Safety
    /// - As for [`wait_event`](RawDevice::wait_event).
    #[inline]
    unsafe fn has_passed(&self, event: EventOf<Self::Backend>) -> Result<bool, DriverError> {
        // SAFETY:
        // - The caller keeps the same contract.
        unsafe { self.wait_event(event) }.map(|()| true)
    }

    /// A new event, which is passed once the point that `event` stands for now has been passed, or
    /// at once without `event` (D10). Called from any thread. Provided: waits for `event`, which a
    /// backend whose waits block replaces, and opens a stream to create an event.
    ///
    /// # Errors
    /// The driver's error.
    ///
    /// # Safety
    /// - `event` was created by a stream of this device (E7), or is one that this method of the
    ///   backend takes besides. It is not destroyed during the call.
    #[inline]
    unsafe fn event_behind(
        &self,
        event: Option<EventOf<Self::Backend>>,
    ) -> Result<EventOf<Self::Backend>, DriverError> {
        if let Some(event) = event {
            // SAFETY:
            // - The caller promises that the event is of this device and alive.
            unsafe { self.wait_event(event) }?;
        }
        self.open(&OpenOptions::new(Pool::Default, 0))?.create_event()
    }
}

/// The state that the typed layer keeps for each device, in the device (D7). Its address is the
/// device's identity (D1).
#[derive(Debug, Default)]
pub struct DeviceState {
    leaked: AtomicUsize,
    /// Values of the typed layer, at most one of each type.
    kept: Mutex<Vec<Arc<dyn Any + Send + Sync>>>,
}

impl DeviceState {
    /// The state of a fresh device.
    #[inline]
    #[must_use]
    pub const fn new() -> Self {
        DeviceState { leaked: AtomicUsize::new(0), kept: Mutex::new(Vec::new()) }
    }

    /// Counts `bytes` of memory of no stream that were leaked, because the driver refused to free
    /// them.
    #[inline]
    pub fn count_leak(&self, bytes: usize) {
        // Saturates, and is a number for messages only.
        let _ =
            self.leaked.try_update(Ordering::Relaxed, Ordering::Relaxed, |leaked| Some(leaked.saturating_add(bytes)));
    }

    /// The bytes counted by [`count_leak`](DeviceState::count_leak).
    #[inline]
    #[must_use]
    pub fn leaked_bytes(&self) -> usize {
        self.leaked.load(Ordering::Relaxed)
    }

    /// The value of type `T` that is kept with the device, if there is one.
    #[doc(hidden)]
    #[inline]
    #[must_use]
    pub fn kept<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        lock(&self.kept).iter().find_map(|value| Arc::downcast(Arc::clone(value)).ok())
    }

    /// The value of type `T` that is kept with the device. The first call makes it. It is dropped
    /// with the device.
    #[doc(hidden)]
    #[inline]
    #[must_use]
    pub fn keep<T: Any + Send + Sync + Default>(&self) -> Arc<T> {
        if let Some(value) = self.kept() {
            return value;
        }
        // Made without the lock, because making it may run any code.
        let made = Arc::<T>::default();
        let mut kept = lock(&self.kept);
        if let Some(value) = kept.iter().find_map(|value| Arc::downcast(Arc::clone(value)).ok()) {
            return value;
        }
        kept.push(Arc::<T>::clone(&made));
        made
    }
}

/// An access of the host to memory, for [`Backend::host_touches`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct HostAccess {
    /// Where the memory starts.
    pub ptr: *const u8,
    /// How many bytes it has.
    pub bytes: usize,
    /// Whether the host writes.
    pub writes: bool,
    /// The name of the access in a report.
    pub what: &'static str,
}

impl HostAccess {
    /// The host reads.
    #[inline]
    #[must_use]
    pub const fn read(ptr: *const u8, bytes: usize, what: &'static str) -> Self {
        HostAccess { ptr, bytes, writes: false, what }
    }

    /// The host writes.
    #[inline]
    #[must_use]
    pub const fn write(ptr: *const u8, bytes: usize, what: &'static str) -> Self {
        HostAccess { ptr, bytes, writes: true, what }
    }
}
