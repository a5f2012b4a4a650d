//! Allocators: who hands out memory, and what the type says about giving it back.
//!
//! The free function follows from the allocator's type (rule R17): a [`Buffer`](crate::Buffer) carries its allocator as
//! a copyable handle of at most one word and calls its [`dealloc`](Allocator::dealloc) when it is dropped.

mod blocks;
mod closures;
mod host;
mod in_location;
mod pinned;
mod stack;
mod stream;

use core::{alloc::Layout, ptr::NonNull};

pub(crate) use self::in_location::{InLocation, at};
pub use self::{
    closures::ClosureAlloc,
    host::HostAlloc,
    pinned::{PinnedAlloc, PinnedPool, PinnedUsage},
    stack::{AlignTo, Alignment, Stack, StackUsage},
    stream::{NoDeviceAlloc, StagedAlloc, StreamAlloc, SyncAlloc},
};
use crate::{
    buffer::widen,
    device::code::{Code, DriverError},
    error::{Error, Shortage},
    location::{DeviceLocation, Host, Location, NoLentAlloc, Pinned},
};

/// Hands out memory of location `D`, and takes it back. Unsafe to implement.
///
/// A handle is copied into every buffer, so it is a reference or zero-sized; it counts nothing.
///
/// # Safety
/// The implementation promises, for every successful [`alloc`](Allocator::alloc):
/// - The memory is exclusively the caller's, in `D`, at least `layout.size()` bytes, aligned to `layout.align()`.
/// - It stays so until [`dealloc`](Allocator::dealloc), however the handle is moved or copied, and for as long as a
///   copy of the handle exists.
/// - Two allocations that are not ranges of one driver allocation are never adjacent: at least one byte lies between
///   them (rule R10; a copy that spans two driver allocations is refused by the driver, and batches merge neighbours).
/// - `dealloc` of device memory may be called while earlier work of the stream still uses it: the memory is given to
///   somebody else only in stream order, or after the work is seen to have finished.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot allocate memory in `{D}`",
    label = "not an allocator for `{D}`",
    note = "a context that has no device allocator gets one with `ctx.with_pool()` or `ctx.with_device_alloc(&stack)`",
    note = "an allocator is tied to its location: a `Stack` or a pool of one stream serves that stream only"
)]
pub unsafe trait Allocator<D: Location> {
    /// Allocates `layout.size()` bytes, which is not 0, uninitialised.
    ///
    /// # Errors
    /// [`AllocError`]; nothing has changed then.
    fn alloc(&self, layout: Layout) -> Result<NonNull<u8>, AllocError>;

    /// Takes back what `alloc` returned.
    ///
    /// # Safety
    /// - `ptr` comes from `alloc(layout)` of this allocator or of a copy of its handle, and was not given back before.
    /// - The host does not use the memory any more, and enqueues no more work that does.
    unsafe fn dealloc(&self, ptr: NonNull<u8>, layout: Layout);

    /// What there is of the memory behind the allocator, for the error of a request that it has just refused. It may make
    /// driver calls.
    #[inline]
    fn shortage(&self) -> Option<Shortage> {
        None
    }
}

/// Why an allocation failed; small, so that the fast path of an arena returns it in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AllocError {
    /// There is not enough memory.
    OutOfMemory,
    /// The allocator gives no memory that is aligned to so many bytes.
    Alignment(u32),
    /// The driver refused for another reason.
    Driver(Code),
    /// The stream is poisoned by an earlier failure.
    Poisoned(Code),
}

impl AllocError {
    /// The refusal of a layout that is aligned beyond what the allocator gives.
    #[cold]
    pub(crate) fn alignment(layout: Layout) -> AllocError {
        // The largest alignment of a type is 2^29.
        AllocError::Alignment(u32::try_from(layout.align()).unwrap_or(u32::MAX))
    }

    /// The error of a request for `bytes` bytes in `D`.
    #[cold]
    pub(crate) fn of<D: Location>(self, bytes: usize) -> Error {
        self.explained(D::NAME, bytes, || None)
    }

    /// The error of a request for `bytes` bytes in `location`, with what there is of it.
    #[cold]
    pub(crate) fn explained(
        self,
        location: &'static str,
        bytes: usize,
        shortage: impl FnOnce() -> Option<Shortage>,
    ) -> Error {
        let named = |code| DriverError::new("an allocation", code);
        match self {
            AllocError::OutOfMemory => Error::OutOfMemory { location, bytes, shortage: shortage() },
            AllocError::Alignment(align) => Error::Alignment { location, align: widen(align) },
            AllocError::Driver(code) => Error::Driver(named(code)),
            AllocError::Poisoned(code) => Error::Poisoned(named(code)),
        }
    }
}

impl From<DriverError> for AllocError {
    #[inline]
    fn from(error: DriverError) -> Self {
        match error.code {
            Code::OUT_OF_MEMORY => AllocError::OutOfMemory,
            code if code.is_sticky() => AllocError::Poisoned(code),
            code => AllocError::Driver(code),
        }
    }
}

/// What a context can allocate from: its device allocator, and the defaults of host and pinned memory. Sealed: whatever is
/// an [`Allocator`] of a stream, and `Copy`, has it.
#[diagnostic::on_unimplemented(
    message = "this context has no allocator for `{D}`",
    label = "`{Self}` does not allocate in `{D}`",
    note = "derive a context that has one: `ctx.with_device_alloc(&stack)`, or `ctx.with_pool()` for the stream's own pool",
    note = "a layer that is generic over its context says what it needs: `fn layer<L: DeviceLocation, A: HasAlloc<L>>(ctx: &Ctx<'_, L, A>)`",
    note = "staged memory is not allocated: `ctx.alloc_pinned::<T>(len)?.stage(&ctx)`"
)]
pub trait HasAlloc<D: Location>: sealed::SealedHasAlloc<D> + Copy {
    /// The allocator.
    type Alloc: Allocator<D> + Copy;
    /// Its handle.
    fn handle(self) -> Self::Alloc;
}

/// The allocator that context allocator `A` has for location `D`.
pub type AllocOf<A, D> = <A as HasAlloc<D>>::Alloc;

impl<A: Copy> HasAlloc<Host> for A {
    type Alloc = HostAlloc;
    #[inline]
    fn handle(self) -> HostAlloc {
        HostAlloc
    }
}

impl<A: Copy, B: crate::device::Backend> HasAlloc<Pinned<B>> for A {
    type Alloc = PinnedAlloc<B>;
    #[inline]
    fn handle(self) -> PinnedAlloc<B> {
        PinnedAlloc::new()
    }
}

#[diagnostic::do_not_recommend]
impl<L: DeviceLocation, A: Allocator<L> + Copy> HasAlloc<L> for A {
    type Alloc = A;
    #[inline]
    fn handle(self) -> A {
        self
    }
}

/// It has the parameter of the trait that it seals.
mod sealed {
    use super::{Allocator, DeviceLocation, Host, Pinned};
    use crate::device::Backend;

    /// Implemented for what the three implementations of `HasAlloc` are for.
    #[diagnostic::on_unimplemented(
        message = "`HasAlloc` is sealed, and `{Self}` is no allocator for `{D}`",
        label = "not `Copy + Allocator<{D}>`",
        note = "an allocator of your own implements `Allocator<L>`, which is unsafe, or is a `ClosureAlloc`; a context allocates from it by `ctx.with_device_alloc(..)`"
    )]
    pub trait SealedHasAlloc<D> {}
    impl<A: Copy> SealedHasAlloc<Host> for A {}
    impl<A: Copy, B: Backend> SealedHasAlloc<Pinned<B>> for A {}
    #[diagnostic::do_not_recommend]
    impl<L: DeviceLocation, A: Allocator<L> + Copy> SealedHasAlloc<L> for A {}
}

// SAFETY:
// - `NoLentAlloc` has no values, so neither method can be called.
#[diagnostic::do_not_recommend]
unsafe impl<L: DeviceLocation> Allocator<crate::location::Lent<L>> for NoLentAlloc {
    #[inline]
    fn alloc(&self, _: Layout) -> Result<NonNull<u8>, AllocError> {
        match *self {}
    }
    #[inline]
    unsafe fn dealloc(&self, _: NonNull<u8>, _: Layout) {
        match *self {}
    }
}
