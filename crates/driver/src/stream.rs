//! One stream of a device: memory, copies, events and waits.

use core::{num::NonZero, ptr::NonNull, time::Duration};

use crate::{
    backend::{Backend, DeviceOf, EventOf, RawDevice},
    batch::CopyBatch,
    code::{Code, DriverError},
    row_shape::RowShape,
};

/// One stream. Work that is enqueued on it runs in order. One thread uses it at a time (S1). Unsafe
/// to implement.
///
/// Device addresses are `*mut u8`, which the host dereferences only if the backend says so. All
/// addresses keep their provenance (M6). A method that is not provided makes one driver call. Every
/// method fails as clauses F1 to F6 say.
///
/// # Safety
/// The implementation keeps clauses P4, P6 and P7, D2, S1 to S8, M1 to M11, O1 to O12, E1 to E9, H1
/// to H3 and F1 to F8.
#[expect(clippy::missing_errors_doc, reason = "clauses F1 to F6 hold for every method")]
pub unsafe trait RawStream: Sized + Send {
    /// The family.
    type Backend: Backend<Stream = Self>;

    /// The kinds of operands that [`batch`](RawStream::batch) takes besides plain copies. The typed
    /// layer turns all others into plain copies, or refuses them (V2).
    const TAKES: Operands = Operands::NONE;

    /// The device.
    fn device(&self) -> &DeviceOf<Self::Backend>;

    /// The calling thread makes the calls on the stream from now on, until
    /// [`leave`](RawStream::leave) or the drop of the stream (S8). Provided: does nothing.
    ///
    /// # Safety
    /// - No thread has entered the stream and not left it.
    /// - What the last thread that entered it did on it happens before this call (S1).
    #[inline]
    unsafe fn enter(&self) {}

    /// Ends what [`enter`](RawStream::enter) began (S8). Provided: does nothing.
    ///
    /// # Safety
    /// - The calling thread has entered the stream, and has left all streams that it has entered
    ///   since.
    #[inline]
    unsafe fn leave(&self) {}

    /// Allocates in stream order (M1 to M4).
    fn alloc(&self, request: Allocation) -> Result<NonNull<u8>, DriverError>;

    /// Frees in stream order (M5).
    ///
    /// # Safety
    /// - `ptr` comes from `alloc` of a stream of this device and was not freed before.
    /// - Work that uses it comes earlier in this stream, or is ordered before it.
    unsafe fn free(&self, ptr: NonNull<u8>) -> Result<(), DriverError>;

    /// Whether [`free`](RawStream::free) is an operation of the stream (M8). If not, `free` waits
    /// for the stream, and the typed layer calls [`free_now`](RawStream::free_now) once the stream
    /// has passed the last use. Provided: `true`.
    #[inline]
    fn frees_in_order(&self) -> bool {
        true
    }

    /// Allocates memory that any stream of the device may use at once (M7). May wait for the
    /// device. Provided: [`alloc`](RawStream::alloc), and a wait for the stream.
    #[inline]
    fn alloc_now(&self, request: Allocation) -> Result<NonNull<u8>, DriverError> {
        let ptr = self.alloc(request)?;
        match self.synchronize() {
            Ok(()) => Ok(ptr),
            // A broken device gets no frees (F5).
            Err(error) if error.code.is_sticky() => Err(error),
            Err(error) => {
                // SAFETY:
                // - The memory is fresh, and no work uses it. If the free fails, the memory is not
                //   used again (F2).
                let _ = unsafe { self.free(ptr) };
                Err(error)
            }
        }
    }

    /// Frees memory of [`alloc_now`](RawStream::alloc_now), and memory of `alloc` if the stream
    /// does not [free in order](RawStream::frees_in_order) (M7, M8). Provided:
    /// [`free`](RawStream::free).
    ///
    /// # Safety
    /// - `ptr` comes from `alloc_now` of a stream of this device, or from `alloc` of one that does
    ///   not free in order, and was not freed before.
    /// - No work that uses it is still to run: the call need not wait.
    #[inline]
    unsafe fn free_now(&self, ptr: NonNull<u8>) -> Result<(), DriverError> {
        // SAFETY:
        // - The caller promises more than `free` requires, and memory of the provided `alloc_now`
        //   comes from `alloc`.
        unsafe { self.free(ptr) }
    }

    /// Page-locks `bytes` bytes of the program's memory for every device of the family (P6). With
    /// `read_only`, devices only read it. Provided: fails with `NOT_SUPPORTED`.
    ///
    /// # Safety
    /// - The range stays mapped until it is unregistered, writable unless `read_only`.
    #[inline]
    unsafe fn register(&self, ptr: *mut u8, bytes: NonZero<usize>, read_only: bool) -> Result<(), DriverError> {
        let _ = (ptr, bytes, read_only);
        Err(DriverError::new("page-locking memory of the program", Code::NOT_SUPPORTED))
    }

    /// Ends the registration of [`register`](RawStream::register). If this fails, the memory may
    /// stay page-locked; it still belongs to the program (P7). Provided: fails with
    /// `NOT_SUPPORTED`, because nothing was registered.
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

    /// Enqueues a fill of `bytes` bytes of device or page-locked memory with `value` (O1, O3, O4).
    ///
    /// # Safety
    /// - C1, C2 and C4, for `dst`.
    unsafe fn fill(&self, dst: *mut u8, value: u8, bytes: NonZero<usize>) -> Result<(), DriverError>;

    /// Enqueues the copies, row gathers and strided copies of a batch, which have no order among
    /// themselves (O5 to O12, F3, F7, F8). Provided: one [`copy`](RawStream::copy) for each copy,
    /// for a stream that takes nothing else.
    ///
    /// # Safety
    /// - C1 to C5 for each of them and C1 to C4 for each row of a gather and each run of a strided
    ///   copy; no destination overlaps another operand.
    /// - The batch has no other operands than [`TAKES`](RawStream::TAKES) names.
    #[inline]
    unsafe fn batch(&self, batch: CopyBatch<'_>) -> Result<(), DriverError> {
        batch.iter().try_for_each(|(dst, src, bytes)| {
            // SAFETY:
            // - The caller keeps the contract of `copy` for each of them.
            unsafe { self.copy(dst, src, bytes) }.map_err(|error| error.of_copy(dst, bytes.get()))
        })
    }

    /// Whether rows of `shape` are recorded as one row gather rather than as a copy for each run
    /// (V4). Provided: [`RowShape::is_worth_a_gather`].
    #[inline]
    #[must_use]
    fn prefers_gather(shape: &RowShape) -> bool {
        shape.is_worth_a_gather()
    }

    /// Creates an event (E1).
    fn create_event(&self) -> Result<EventOf<Self::Backend>, DriverError>;

    /// Creates an event for each of `places`, up to the first refusal (E6). Provided:
    /// [`create_event`](RawStream::create_event) for each.
    #[inline]
    fn create_events(&self, places: &mut [Option<EventOf<Self::Backend>>]) -> Result<(), DriverError> {
        places.iter_mut().try_for_each(|place| self.create_event().map(|event| *place = Some(event)))
    }

    /// Records `event` behind everything enqueued so far (E2).
    ///
    /// # Safety
    /// - `event` was created by a stream of this device (E7) and is not destroyed (E5).
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

    /// Blocks the calling thread until `event` has been passed (E4, H1). Provided:
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

    /// Creates an event whose records take the time (E8). Provided: fails with `NOT_SUPPORTED`.
    #[inline]
    fn create_timed_event(&self) -> Result<EventOf<Self::Backend>, DriverError> {
        Err(DriverError::new("creating an event that takes the time", Code::NOT_SUPPORTED))
    }

    /// The time from the latest record of `start` to that of `end` (E9). Does not wait. Provided:
    /// fails with `NOT_SUPPORTED`.
    ///
    /// # Safety
    /// - Both events come from [`create_timed_event`](RawStream::create_timed_event) of a stream of
    ///   this device, and are not destroyed (E5, E7).
    /// - One stream recorded both, `start` first, and the host has seen that `end` was passed (H1).
    #[inline]
    unsafe fn elapsed(
        &self,
        start: EventOf<Self::Backend>,
        end: EventOf<Self::Backend>,
    ) -> Result<Duration, DriverError> {
        let _ = (start, end);
        Err(DriverError::new("the time between two events", Code::NOT_SUPPORTED))
    }

    /// Whether all work has run (H1).
    fn is_idle(&self) -> Result<bool, DriverError>;

    /// Blocks the calling thread until all work has run (H1).
    fn synchronize(&self) -> Result<(), DriverError>;

    /// Informs a backend that checks order that the program uses memory again that it had lent to
    /// the stream (P4). Makes no driver call. Provided: does nothing.
    ///
    /// # Safety
    /// - The calling thread has waited for everything enqueued, or none of it uses what was lent.
    #[inline]
    unsafe fn loans_end(&self) {}

    /// Returns cached memory of the stream's pool to the device until at most `keep` bytes are
    /// reserved (M9). Provided: nothing is cached.
    #[inline]
    fn trim(&self, keep: usize) -> Result<(), DriverError> {
        let _ = keep;
        Ok(())
    }

    /// Returns the cached memory of the pools of all other open streams to the device, and says
    /// whether there is such a pool (M10). If the driver refuses, the memory stays cached.
    /// Provided: `false`.
    #[inline]
    fn trim_others(&self) -> bool {
        false
    }

    /// The bytes that the pools of the device's open streams have reserved and that are not
    /// allocated (M11). Provided: 0.
    #[inline]
    fn cached(&self) -> Result<usize, DriverError> {
        Ok(0)
    }

    /// Acquires what the stream otherwise acquires at the first use, so that no later call locks
    /// memory, creates an event or loads code for work of a usual size (S7). Provided: does
    /// nothing.
    #[inline]
    fn warm(&self) -> Result<(), DriverError> {
        Ok(())
    }
}

/// A request for device memory. Further fields will be hints, which a backend may ignore (V1).
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

/// A set of the kinds of operands that a batch may have besides plain copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operands(u32);

impl Operands {
    /// None: plain copies only.
    pub const NONE: Operands = Operands(0);
    /// Copies whose sources are in pageable host memory and are read before the call returns (O6).
    pub const HOST_SOURCES: Operands = Operands(1);
    /// Row gathers whose numbers the host has (O7, O8).
    pub const ROW_GATHERS: Operands = Operands(2);
    /// Row gathers whose numbers are in device memory and are read in stream order (O9).
    pub const DEVICE_ROW_GATHERS: Operands = Operands(4);
    /// Row gathers that the stream takes may have numbers of their destination rows, which the host
    /// has (O10).
    pub const ROW_SCATTERS: Operands = Operands(8);
    /// Rows of gathers that the stream takes may be farther apart than they are wide (O11).
    pub const PITCHED_ROWS: Operands = Operands(16);
    /// Copies of runs in nested loops (O12).
    pub const STRIDED_COPIES: Operands = Operands(32);

    /// The union of both sets.
    #[inline]
    #[must_use]
    pub const fn and(self, other: Operands) -> Operands {
        Operands(self.0 | other.0)
    }

    /// Whether the set contains all kinds of `other`.
    #[inline]
    #[must_use]
    pub const fn has(self, other: Operands) -> bool {
        self.0 & other.0 == other.0
    }
}
