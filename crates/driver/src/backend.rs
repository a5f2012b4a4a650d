//! Families of devices, devices, and the state that the typed layer keeps for each device.

use core::{
    fmt::Debug,
    num::NonZero,
    ptr::NonNull,
    sync::atomic::{AtomicBool, Ordering},
};

use crate::{
    code::DriverError, options::OpenOptions, pinned::PinnedPool, spare_events::SpareEvents, stream::RawStream,
};

/// The device of backend `B`.
pub type DeviceOf<B> = <B as Backend>::Device;
/// The stream of backend `B`.
pub type StreamOf<B> = <B as Backend>::Stream;
/// The event of backend `B`.
pub type EventOf<B> = <B as Backend>::Event;

/// A family of devices that share one kind of page-locked memory. The type is a name. Unsafe to
/// implement.
///
/// # Safety
/// The implementation keeps clauses P1 to P5 of the driver contract.
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
    /// What the driver answered.
    fn pin(bytes: NonZero<usize>) -> Result<NonNull<u8>, DriverError>;

    /// Gives back what [`pin`](Backend::pin) returned (P3).
    ///
    /// # Errors
    /// What the driver answered; the memory then stays locked.
    ///
    /// # Safety
    /// - `ptr` comes from `pin` of this backend and was not given back before.
    /// - Neither the host nor a device uses the memory any more.
    unsafe fn unpin(ptr: NonNull<u8>) -> Result<(), DriverError>;

    /// For a backend that checks order: the host touches memory that a stream may have been using
    /// (P4). No driver call. Provided: nothing.
    ///
    /// The access counts as ordered from then on, so that a false report hides a race.
    ///
    /// # Safety
    /// - The calling thread owns or borrows the memory as the access says, and it stays allocated
    ///   during the call.
    /// - The thread has waited, itself or through whoever handed it the memory, for all work that
    ///   conflicts.
    #[inline]
    unsafe fn host_touches(access: HostAccess) {
        let _ = access;
    }
}

/// A device. Its clones keep it alive, and any thread uses it. Unsafe to implement.
///
/// # Safety
/// The implementation keeps clauses D1 to D5, and F1 to F6 for the calls of a device.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a device",
    label = "expected `sim::Device`, `cuda::Device` or the device of another backend"
)]
pub unsafe trait RawDevice: Clone + Send + Sync + 'static {
    /// The family.
    type Backend: Backend<Device = Self>;

    /// What the typed layer keeps for the device. Its address is the device's identity (D1).
    fn shared(&self) -> &DeviceState<EventOf<Self::Backend>>;

    /// The number that the device was opened with, for messages; it is not the device's identity.
    fn ordinal(&self) -> usize;

    /// Opens a stream (D2).
    ///
    /// # Errors
    /// What the driver answered.
    fn open(&self, options: &OpenOptions) -> Result<StreamOf<Self::Backend>, DriverError>;

    /// Free and total bytes of the device's memory.
    ///
    /// # Errors
    /// What the driver answered.
    fn memory_info(&self) -> Result<(usize, usize), DriverError>;

    /// Holds the calling thread until `event` has been passed (E4, H1).
    ///
    /// # Errors
    /// What the driver answered.
    ///
    /// # Safety
    /// - `event` was created by a stream of this device and is not destroyed.
    unsafe fn wait_event(&self, event: EventOf<Self::Backend>) -> Result<(), DriverError>;

    /// Destroys an event (E5).
    ///
    /// # Safety
    /// - `event` was created by a stream of this device, and is not used again.
    unsafe fn destroy_event(&self, event: EventOf<Self::Backend>);

    /// Frees, from any thread, what [`RawStream::alloc`] returned (D4).
    ///
    /// # Errors
    /// What the driver answered; the memory then stays allocated (F2).
    ///
    /// # Safety
    /// - `ptr` comes from `alloc` of a stream of this device and was not freed before.
    /// - No work that uses it is still to run.
    unsafe fn free(&self, ptr: NonNull<u8>) -> Result<(), DriverError>;

    /// Takes over memory and its event, to free and destroy them once the event has been passed, if
    /// the calling thread is one that carries out the work of a device and therefore must not wait
    /// (D6). Returns whether it did. Provided: never.
    ///
    /// # Safety
    /// - As for [`free`](RawDevice::free), of work that lies before the latest record of `event`.
    /// - If this returns `true`, `event` is not used again.
    #[inline]
    unsafe fn free_behind(&self, event: EventOf<Self::Backend>, memory: Option<NonNull<u8>>) -> bool {
        let _ = (event, memory);
        false
    }
}

/// What the typed layer keeps for each device, in the device. Its address is the device's identity
/// (D1).
#[derive(Debug)]
pub struct DeviceState<E> {
    leaks: AtomicBool,
    spare_events: SpareEvents<E>,
}

impl<E> DeviceState<E> {
    /// The state of a fresh device.
    #[inline]
    #[must_use]
    pub const fn new() -> Self {
        DeviceState { leaks: AtomicBool::new(false), spare_events: SpareEvents::new() }
    }

    /// Notes that a stream could not be waited for: memory that streams share is leaked from now
    /// on, never freed.
    #[inline]
    pub fn leak_shared(&self) {
        self.leaks.store(true, Ordering::Release);
    }

    /// Whether memory that streams share is leaked.
    #[inline]
    #[must_use]
    pub fn leaks_shared(&self) -> bool {
        self.leaks.load(Ordering::Acquire)
    }

    /// The events that no stream of the device needs at the moment (D8). For the typed layer.
    ///
    /// # Safety
    /// - An event that the caller adds was created by a stream of this device, is not destroyed, and is not used again by
    ///   any copy of the handle.
    /// - The caller counts each stream when it opens and when it ends, once.
    #[inline]
    #[must_use]
    pub const unsafe fn spare_events(&self) -> &SpareEvents<E> {
        &self.spare_events
    }
}

impl<E> Default for DeviceState<E> {
    #[inline]
    fn default() -> Self {
        DeviceState::new()
    }
}

/// How the host touches memory, for [`Backend::host_touches`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct HostAccess {
    /// Where the memory starts.
    pub ptr: *const u8,
    /// How many bytes it has.
    pub bytes: usize,
    /// Whether the host writes.
    pub writes: bool,
    /// What the access is called in a report.
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
