//! The driver seam: what the typed layer asks of a device, and nothing else.
//!
//! A [`Backend`] is a family of devices ([`SimBackend`](crate::sim::SimBackend)); its [`Queue`] is one driver stream.
//! The typed layer above proves when memory may be touched; the seam below only carries the calls. Nothing in here
//! looks at a lifetime, and nothing above here names a driver.

pub(crate) use tidelock_driver::code;
#[cfg(feature = "cuda-core")]
pub mod cuda;
pub(crate) mod expand;
mod moves;
mod pools;
pub mod sim;
mod spares;

use core::{fmt::Debug, num::NonZero, ptr::NonNull};

pub(crate) use self::{
    moves::{Move, Moves},
    pools::Pools,
    spares::Spares,
};
use crate::{alloc::PinnedPool, device::code::DriverError};

/// A family of devices that share one kind of page-locked memory. Unsafe to implement, and sealed for now.
///
/// # Safety
/// The implementation promises:
/// - Every `Queue` is a stream of a device of the family, and [`pin`](Backend::pin) gives memory that each of them can use.
/// - Memory from `pin` is exclusively the caller's, at least as many bytes as were asked for, aligned to 256 bytes, of use
///   to the host and to every device, until it is given to [`unpin`](Backend::unpin).
/// - [`pinned_pool`](Backend::pinned_pool) answers with one pool at every call, which no other family has.
/// - No method unwinds.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a family of devices",
    label = "expected `sim::SimBackend` or `cuda::CudaBackend`",
    note = "generic code names the family of its stream: `L::Backend` with `L: DeviceLocation`"
)]
pub unsafe trait Backend: sealed::Sealed + Sized + Copy + Debug + 'static {
    /// One driver stream.
    #[doc(hidden)]
    type Queue: Queue;

    /// The process-wide pool behind [`Pinned`](crate::Pinned) memory of this backend.
    fn pinned_pool() -> &'static PinnedPool<Self>;

    /// Page-locks `bytes` of fresh host memory, aligned to at least 256 bytes, usable by every device of the backend.
    ///
    /// # Errors
    /// What the driver answered.
    #[doc(hidden)]
    fn pin(bytes: NonZero<usize>) -> Result<NonNull<u8>, DriverError>;

    /// Gives back what [`pin`](Backend::pin) returned.
    ///
    /// # Errors
    /// What the driver answered; the memory then stays locked.
    ///
    /// # Safety
    /// - `ptr` comes from `pin` of this backend and was not given back before.
    /// - Neither the host nor any device uses the memory any more.
    #[doc(hidden)]
    unsafe fn unpin(ptr: NonNull<u8>) -> Result<(), DriverError>;

    /// Tells a backend that checks order that the host touches, from now on, memory that a queue may have been using;
    /// `what` names the access. No backend but the simulated one does anything here.
    ///
    /// What is said here counts for ordered from then on, so that an untrue word blinds the backend to a race.
    ///
    /// # Safety
    /// - The calling thread may touch the `bytes` bytes at `ptr` now, by writing them if `writes`: it owns or borrows them,
    ///   and they stay allocated during the call.
    /// - It has waited, itself or through whoever handed it the memory, for all work that conflicts with the access.
    #[doc(hidden)]
    #[inline]
    unsafe fn host_touches(ptr: *const u8, bytes: usize, writes: bool, what: &'static str) {
        let _ = (ptr, bytes, writes, what);
    }
}

/// One driver stream, as the typed layer sees it: every method is one driver call.
///
/// Device addresses are `*mut u8` without provenance; host addresses keep theirs. A queue belongs to one host thread. Unsafe
/// to implement, and sealed for now; no code outside of this crate gets hold of a queue.
///
/// # Safety
/// The implementation promises:
/// - Work runs in the order in which it was enqueued, and touches the ranges it was given and nothing else.
/// - A call that fails has enqueued nothing and changed nothing, except that a batch of several submissions may be carried
///   out up to the refused one.
/// - Memory from `alloc` and `alloc_sync` is exclusively the caller's, at least as many bytes as were asked for, aligned to
///   256 bytes, until it is freed: in the order of the queue for `alloc` and `free`, at once for the others.
/// - `synchronize` and `observe` answer `Ok`, `is_idle` and `query` answer `Ok(true)`, only when the device has finished
///   everything enqueued before, or before the latest record of the event; what it wrote is visible to the calling thread.
/// - What is enqueued behind `wait` runs after everything that was enqueued before the latest record of the event.
/// - Two queues have the same `device_id` only if each can use the memory and the events of the other.
/// - No method unwinds.
#[doc(hidden)]
pub unsafe trait Queue: sealed::Sealed + Sized {
    /// A driver event. A plain handle: it is destroyed by [`destroy_event`](Queue::destroy_event) only.
    type Event: Copy + Send + Sync + 'static;
    /// The device, for memory that outlives the queue.
    type Remote: Remote<Event = Self::Event>;

    /// The queue's device.
    fn remote(&self) -> Self::Remote;

    /// An address that stays the same and is unlike every other live device's: its context, never its ordinal.
    fn device_id(&self) -> usize;
    /// The ordinal the device was opened with, for messages.
    fn ordinal(&self) -> usize;

    /// Whether [`free`](Queue::free) is an operation of the queue. If not, it waits for the queue, and whoever can had
    /// better free the memory with [`free_sync`](Queue::free_sync) once the queue is seen to have passed its last use.
    #[inline]
    fn frees_in_order(&self) -> bool {
        true
    }
    /// Allocates `bytes` in stream order from the pool of the queue.
    fn alloc(&self, bytes: NonZero<usize>) -> Result<NonNull<u8>, DriverError>;
    /// Frees in stream order.
    ///
    /// # Safety
    /// - `ptr` comes from `alloc` of a queue of this device and was not freed before.
    /// - Work that uses it comes earlier in this queue, or is ordered before it.
    unsafe fn free(&self, ptr: NonNull<u8>) -> Result<(), DriverError>;

    /// Allocates `bytes` at once, waiting for the device if the driver wishes so.
    fn alloc_sync(&self, bytes: NonZero<usize>) -> Result<NonNull<u8>, DriverError>;
    /// Frees what `alloc_sync` returned, at once; what `alloc` returned too, unless the queue frees in order.
    ///
    /// # Safety
    /// - `ptr` comes from `alloc_sync` of a queue of this device, or from `alloc` of one that does not free in order, and was
    ///   not freed before.
    /// - No work that is still running uses it: the call is not relied upon to wait.
    unsafe fn free_sync(&self, ptr: NonNull<u8>) -> Result<(), DriverError>;

    /// Page-locks `bytes` bytes of memory that the program has, for every device; to be read only, if the device can tell.
    ///
    /// # Safety
    /// - The range stays mapped until it is unregistered, for writes too unless `read_only`.
    unsafe fn register(&self, ptr: *mut u8, bytes: NonZero<usize>, read_only: bool) -> Result<(), DriverError>;
    /// Ends what [`register`](Queue::register) began. If it is refused, the memory stays page-locked, and is the program's.
    ///
    /// # Safety
    /// - No work that is still running uses the memory.
    unsafe fn unregister(&self, ptr: *mut u8) -> Result<(), DriverError>;

    /// Enqueues a copy of `bytes` bytes. Host memory may be read or written at any time until the queue has passed it.
    ///
    /// # Safety
    /// - Both ranges lie in one allocation each, are valid until the queue has passed the copy, and do not overlap.
    /// - No other work or host access conflicts with it that is not ordered against this queue.
    unsafe fn copy(&self, dst: *mut u8, src: *const u8, bytes: NonZero<usize>) -> Result<(), DriverError>;
    /// Enqueues writing `value` into `bytes` bytes.
    ///
    /// # Safety
    /// As for [`copy`](Queue::copy), for `dst`.
    unsafe fn fill(&self, dst: *mut u8, value: u8, bytes: NonZero<usize>) -> Result<(), DriverError>;
    /// Enqueues all of `copies`, in no order among themselves.
    ///
    /// # Safety
    /// - As for [`copy`](Queue::copy), for each of them and each row of a move; no destination overlaps another or a source.
    /// - The first three slices have one length, no length in them is 0; moves are as [`Move`] says.
    /// - Sources from `copies.during_call` on are read before the call returns and need not stay valid after it.
    unsafe fn batch(&self, copies: Copies<'_>) -> Result<(), DriverError>;

    /// Creates an event.
    fn create_event(&self) -> Result<Self::Event, DriverError>;
    /// Creates an event for each of `places`, up to the first that is refused.
    fn create_events(&self, places: &mut [Option<Self::Event>]) -> Result<(), DriverError> {
        places.iter_mut().try_for_each(|place| self.create_event().map(|event| *place = Some(event)))
    }
    /// Destroys an event that nobody waits for any more.
    fn destroy_event(&self, event: Self::Event);
    /// The events that no stream of the device needs.
    fn spares(&self) -> &Spares<Self::Event>;
    /// Records `event` behind everything enqueued so far.
    fn record(&self, event: Self::Event) -> Result<(), DriverError>;
    /// Makes what is enqueued from now on wait for the latest record of `event`, by any queue of the same device. The host
    /// does not wait.
    fn wait(&self, event: Self::Event) -> Result<(), DriverError>;
    /// Whether `event` has been passed.
    fn query(&self, event: Self::Event) -> Result<bool, DriverError>;
    /// Holds the calling thread until `event` has been passed.
    fn observe(&self, event: Self::Event) -> Result<(), DriverError>;
    /// Whether the queue is empty.
    fn is_idle(&self) -> Result<bool, DriverError>;
    /// Holds the calling thread until the queue is empty.
    fn synchronize(&self) -> Result<(), DriverError>;
    /// Tells a backend that checks order that the host takes back what was lent to the queue. No driver call.
    ///
    /// # Safety
    /// - The calling thread has waited for everything enqueued, or none of it uses what was lent.
    #[inline]
    unsafe fn loans_end(&self) {}

    /// Gives cached memory of the queue's pool back to the device until at most `keep` bytes are reserved.
    fn trim(&self, keep: usize) -> Result<(), DriverError>;
    /// Gives all cached memory of the pools of the device's other open queues back to the device, and says whether there are
    /// such pools. What is refused stays cached.
    fn trim_others(&self) -> bool;
    /// Bytes that the pools of the device's open queues have from the device and that nobody has allocated.
    fn cached(&self) -> Result<usize, DriverError>;
    /// Gets what the queue would otherwise get at the first use, so that no later call locks memory, creates an event or loads
    /// code.
    #[inline]
    fn warm(&self) -> Result<(), DriverError> {
        Ok(())
    }
    /// Free and total bytes of the device.
    fn memory_info(&self) -> Result<(usize, usize), DriverError>;
}

/// A device, as memory that outlives its streams sees it. It keeps the device alive, and is used by any thread. Unsafe to
/// implement, and sealed for now.
///
/// # Safety
/// The implementation promises:
/// - The memory and the events of the device stay valid as long as a value of this type exists.
/// - `device_id` is that of the device's queues.
/// - `observe` answers `Ok` only when the device has finished everything enqueued before the latest record of the event.
/// - `is_doomed` answers `true` from the first `doom` on, of this value or of any other of the same device.
/// - No method unwinds.
#[doc(hidden)]
pub unsafe trait Remote: sealed::Sealed + Clone + Send + Sync + 'static {
    /// A driver event of the device.
    type Event: Copy;

    /// As [`Queue::device_id`].
    fn device_id(&self) -> usize;
    /// Holds the calling thread until `event` has been passed.
    fn observe(&self, event: Self::Event) -> Result<(), DriverError>;
    /// Destroys an event that nobody waits for any more.
    fn destroy_event(&self, event: Self::Event);
    /// As [`Queue::spares`].
    fn spares(&self) -> &Spares<Self::Event>;
    /// Frees memory that a queue of the device allocated in stream order.
    ///
    /// # Safety
    /// - `ptr` comes from `Queue::alloc` of a queue of this device and was not freed before.
    /// - No work that is still running uses it.
    unsafe fn free(&self, ptr: NonNull<u8>) -> Result<(), DriverError>;
    /// Takes over memory and its event, to be given back when the event was passed, if the calling thread is one on which
    /// nobody may wait, because it carries out the work of a device; answers whether it did.
    ///
    /// # Safety
    /// - As for [`free`](Remote::free), of work that lies before the latest record of `event`; if this answers `true`, nobody
    ///   uses the event any more either.
    #[inline]
    unsafe fn free_behind(&self, event: Self::Event, memory: Option<NonNull<u8>>) -> bool {
        let _ = (event, memory);
        false
    }

    /// Notes that a stream could not be waited for: memory that streams share is not freed any more.
    fn doom(&self);
    /// Whether a stream could not be waited for.
    fn is_doomed(&self) -> bool;
}

/// The operands of one batch, as the driver takes them: a structure of arrays.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Copies<'a> {
    /// Where each copy goes.
    pub dst: &'a [*mut u8],
    /// Where each copy comes from.
    pub src: &'a [*const u8],
    /// The bytes of each copy, none of them 0.
    pub len: &'a [usize],
    /// Copies from this index on have pageable sources, which are read during the call.
    pub during_call: usize,
    /// Rows that are copied too, in stream order.
    pub moves: Moves<'a>,
}

#[cfg(feature = "cuda-core")]
impl<'a> Copies<'a> {
    /// The copies from the `n`th on, without the moves.
    pub(crate) fn behind(&self, n: usize) -> Option<Copies<'a>> {
        let (dst, src, len) = (self.dst.get(n..)?, self.src.get(n..)?, self.len.get(n..)?);
        Some(Copies { dst, src, len, during_call: self.during_call.saturating_sub(n), moves: Moves::default() })
    }
}

pub(crate) mod sealed {
    /// Implemented for the backends of this crate, their queues and their devices only.
    #[diagnostic::on_unimplemented(
        message = "the families of devices are sealed, and `{Self}` is none of them",
        label = "not `sim::SimBackend` or `cuda::CudaBackend`",
        note = "a device without hardware for tests is `sim::Device`"
    )]
    pub trait Sealed {}
}
