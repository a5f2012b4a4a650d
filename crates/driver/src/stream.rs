//! One stream of a device: memory, copies, events and waits.

use core::{num::NonZero, ptr::NonNull};

use crate::{
    backend::{Backend, DeviceOf, EventOf, RawDevice},
    batch::CopyBatch,
    code::{Code, DriverError},
};

/// One stream: work enqueued on it runs in order. It stays on the thread that opened it (S1).
/// Unsafe to implement.
///
/// Device addresses are `*mut u8` without provenance; host addresses keep theirs. Every method that
/// is not provided is one call of a driver. The methods have the errors of clauses F1 to F6.
///
/// # Safety
/// The implementation keeps clauses S2 to S5, M1 to M8, O1 to O6, E1 to E5, H1 to H3 and F1 to F6.
#[expect(clippy::missing_errors_doc, reason = "clauses F1 to F6 hold for every method")]
pub unsafe trait RawStream: Sized {
    /// The family.
    type Backend: Backend<Stream = Self>;

    /// The operands that [`batch`](RawStream::batch) takes beside plain copies. The typed layer
    /// turns all others into plain copies, or refuses them (V2).
    const TAKES: Operands = Operands::NONE;

    /// The device.
    fn device(&self) -> &DeviceOf<Self::Backend>;

    /// Allocates in stream order (M1 to M4).
    fn alloc(&self, request: Allocation) -> Result<NonNull<u8>, DriverError>;

    /// Frees in stream order (M5).
    ///
    /// # Safety
    /// - `ptr` comes from `alloc` of a stream of this device and was not freed before.
    /// - Work that uses it comes earlier in this stream, or is ordered before it.
    unsafe fn free(&self, ptr: NonNull<u8>) -> Result<(), DriverError>;

    /// Whether [`free`](RawStream::free) is an operation of the stream. If not, it waits for the
    /// stream, and the typed layer frees with [`free_now`](RawStream::free_now) once the stream has
    /// passed the last use (M8). Provided: it is.
    #[inline]
    fn frees_in_order(&self) -> bool {
        true
    }

    /// Allocates memory that any stream of the device may use at once, and may wait for the device
    /// (M7). Provided: [`alloc`](RawStream::alloc), and a wait for the stream.
    #[inline]
    fn alloc_now(&self, request: Allocation) -> Result<NonNull<u8>, DriverError> {
        let ptr = self.alloc(request)?;
        match self.synchronize() {
            Ok(()) => Ok(ptr),
            Err(error) => {
                // SAFETY:
                // - The memory is fresh, and no work uses it. If it stays allocated, it is leaked
                //   (F2).
                let _ = unsafe { self.free(ptr) };
                Err(error)
            }
        }
    }

    /// Frees what [`alloc_now`](RawStream::alloc_now) returned, and what `alloc` returned unless
    /// the stream [frees in order](RawStream::frees_in_order) (M7, M8). Provided:
    /// [`free`](RawStream::free).
    ///
    /// # Safety
    /// - `ptr` comes from `alloc_now` of a stream of this device, or from `alloc` of one that does
    ///   not free in order, and was not freed before.
    /// - No work that uses it is still to run: the call is not relied upon to wait.
    #[inline]
    unsafe fn free_now(&self, ptr: NonNull<u8>) -> Result<(), DriverError> {
        // SAFETY:
        // - The caller promises more than `free` asks for: memory of the provided `alloc_now` comes
        //   from `alloc`.
        unsafe { self.free(ptr) }
    }

    /// Page-locks `bytes` bytes that the program has, for every device of the family; to be read
    /// only, if the device can tell (P6). Provided: refused with `NOT_SUPPORTED`.
    ///
    /// # Safety
    /// - The range stays mapped until it is unregistered, for writes too unless `read_only`.
    #[inline]
    unsafe fn register(&self, ptr: *mut u8, bytes: NonZero<usize>, read_only: bool) -> Result<(), DriverError> {
        let _ = (ptr, bytes, read_only);
        Err(DriverError::new("page-locking memory of the program", Code::NOT_SUPPORTED))
    }

    /// Ends what [`register`](RawStream::register) began. If it is refused, the memory stays
    /// page-locked, and is the program's (P6). Provided: refused with `NOT_SUPPORTED`, as nothing
    /// was registered.
    ///
    /// # Safety
    /// - `ptr` was registered and not unregistered since.
    /// - No work that uses the memory is still to run.
    #[inline]
    unsafe fn unregister(&self, ptr: *mut u8) -> Result<(), DriverError> {
        let _ = ptr;
        Err(DriverError::new("unlocking memory of the program", Code::NOT_SUPPORTED))
    }

    /// Enqueues a copy of `bytes` bytes (O1, O3, O4).
    ///
    /// # Safety
    /// - C1 to C4.
    unsafe fn copy(&self, dst: *mut u8, src: *const u8, bytes: NonZero<usize>) -> Result<(), DriverError>;

    /// Enqueues writing `value` into `bytes` bytes of device or page-locked memory (O1, O3, O4).
    ///
    /// # Safety
    /// - C1 to C4, for `dst`.
    unsafe fn fill(&self, dst: *mut u8, value: u8, bytes: NonZero<usize>) -> Result<(), DriverError>;

    /// Enqueues the copies of a batch, in no order among themselves (O5, O6, F3). Provided: one
    /// [`copy`](RawStream::copy) each.
    ///
    /// # Safety
    /// - C1 to C4 for each of them and for each row of a gather; no destination overlaps another
    ///   operand.
    /// - The batch has no other operands than [`TAKES`](RawStream::TAKES) names.
    #[inline]
    unsafe fn batch(&self, batch: CopyBatch<'_>) -> Result<(), DriverError> {
        batch.iter().try_for_each(|(dst, src, bytes)| {
            // SAFETY:
            // - The caller keeps the contract of `copy` for each of them.
            unsafe { self.copy(dst, src, bytes) }.map_err(|error| error.of_copy(dst, bytes.get()))
        })
    }

    /// Creates an event (E1).
    fn create_event(&self) -> Result<EventOf<Self::Backend>, DriverError>;

    /// Creates an event for each of `places`, up to the first that is refused. Provided: one by
    /// one.
    #[inline]
    fn create_events(&self, places: &mut [Option<EventOf<Self::Backend>>]) -> Result<(), DriverError> {
        places.iter_mut().try_for_each(|place| self.create_event().map(|event| *place = Some(event)))
    }

    /// Records `event` behind everything enqueued so far (E2).
    ///
    /// # Safety
    /// - `event` was created by a stream of this device and is not destroyed.
    unsafe fn record(&self, event: EventOf<Self::Backend>) -> Result<(), DriverError>;

    /// Makes what is enqueued from now on wait for the latest record of `event` (E3). The host does
    /// not wait.
    ///
    /// # Safety
    /// - As for [`record`](RawStream::record).
    unsafe fn wait(&self, event: EventOf<Self::Backend>) -> Result<(), DriverError>;

    /// Whether `event` has been passed (E4, H1).
    ///
    /// # Safety
    /// - As for [`record`](RawStream::record).
    unsafe fn has_passed(&self, event: EventOf<Self::Backend>) -> Result<bool, DriverError>;

    /// Holds the calling thread until `event` has been passed (E4, H1). Provided:
    /// [`RawDevice::wait_event`].
    ///
    /// # Safety
    /// - As for [`record`](RawStream::record).
    #[inline]
    unsafe fn wait_event(&self, event: EventOf<Self::Backend>) -> Result<(), DriverError> {
        // SAFETY:
        // - The caller keeps the same contract.
        unsafe { self.device().wait_event(event) }
    }

    /// Whether all work has run (H1).
    fn is_idle(&self) -> Result<bool, DriverError>;

    /// Holds the calling thread until all work has run (H1).
    fn synchronize(&self) -> Result<(), DriverError>;

    /// For a backend that checks order: what the program lent to the stream is the program's again
    /// (P4). No driver call. Provided: nothing.
    ///
    /// # Safety
    /// - The calling thread has waited for everything enqueued, or none of it uses what was lent.
    #[inline]
    unsafe fn loans_end(&self) {}

    /// Gives cached memory of the stream's pool back to the device until at most `keep` bytes are
    /// reserved. Provided: nothing is cached.
    #[inline]
    fn trim(&self, keep: usize) -> Result<(), DriverError> {
        let _ = keep;
        Ok(())
    }

    /// Gives all cached memory of the pools of the device's other open streams back to the device,
    /// and returns whether there are such pools. What is refused stays cached. Provided: there are
    /// none.
    #[inline]
    fn trim_others(&self) -> bool {
        false
    }

    /// Bytes that the pools of the device's open streams have from the device and that are not
    /// allocated. Provided: 0.
    #[inline]
    fn cached(&self) -> Result<usize, DriverError> {
        Ok(0)
    }

    /// Gets what the stream would otherwise get at the first use, so that no later call locks
    /// memory, creates an event or loads code. Provided: nothing.
    #[inline]
    fn warm(&self) -> Result<(), DriverError> {
        Ok(())
    }
}

/// A request for device memory. Further fields are hints, which a backend may leave alone (V1).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Allocation {
    /// How many bytes.
    pub bytes: NonZero<usize>,
}

impl Allocation {
    /// A request for `bytes` bytes.
    #[inline]
    #[must_use]
    pub const fn new(bytes: NonZero<usize>) -> Self {
        Allocation { bytes }
    }
}

/// Kinds of operands of a batch beside plain copies, as a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operands(u32);

impl Operands {
    /// None: plain copies only.
    pub const NONE: Operands = Operands(0);
    /// Copies whose sources lie in pageable host memory and are read before the call returns (O6).
    pub const HOST_SOURCES: Operands = Operands(1);
    /// Row gathers whose numbers the host has.
    pub const ROW_GATHERS: Operands = Operands(2);
    /// Row gathers whose numbers lie in device memory and are read in stream order.
    pub const DEVICE_ROW_GATHERS: Operands = Operands(4);

    /// All kinds of both.
    #[inline]
    #[must_use]
    pub const fn and(self, other: Operands) -> Operands {
        Operands(self.0 | other.0)
    }

    /// Whether all kinds of `other` are in the set.
    #[inline]
    #[must_use]
    pub const fn has(self, other: Operands) -> bool {
        self.0 & other.0 == other.0
    }
}
