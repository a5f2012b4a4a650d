//! What a context allocates from: its device allocator, and its allocators of host and pinned
//! memory, which are the defaults unless the context replaces them.

#![forbid(unsafe_code)]

use tidelock_driver::Backend;

use super::{NoDeviceAlloc, StreamAlloc, SyncAlloc, location::DeviceLocation};
use crate::{
    alloc::{Allocator, HostAlloc, PinnedAlloc},
    location::{Host, Location, Pinned},
};

/// What a context can allocate from, in location `D`: its device allocator, or its allocator of
/// host or pinned memory. Sealed: every [`AllocHandle`] that is an [`Allocator`] of a stream
/// implements it, and so do [`WithHost`] and [`WithPinned`].
#[diagnostic::on_unimplemented(
    message = "this context has no allocator for `{D}`",
    label = "`{Self}` does not allocate in `{D}`",
    note = "derive a context that has one: `ctx.with_device_alloc(&stack)`, or `ctx.with_pool()` for the stream's own pool",
    note = "a layer that is generic over its context says what it needs: `fn layer<L: DeviceLocation, A: HasAlloc<L>>(ctx: &Ctx<'_, L, A>)`",
    note = "staged memory is not allocated: `ctx.alloc_pinned::<T>(len)?.stage(&ctx)`"
)]
pub trait HasAlloc<D: Location>: sealed::SealedHasAlloc<D> + Allocators {
    /// The allocator.
    type Alloc: Allocator<D> + Copy;
    /// Its handle.
    fn handle(self) -> Self::Alloc;
}

/// The allocator of a context with allocators `A`, for location `D`.
pub type AllocOf<A, D> = <A as HasAlloc<D>>::Alloc;

/// The allocators of a context, whose device allocator can be replaced. Sealed: every
/// [`AllocHandle`] implements it, and so do [`WithHost`] and [`WithPinned`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not known to be the allocators of a context",
    label = "a context with `{Self}` has no host allocator, and its device allocator cannot be replaced",
    note = "a layer that is generic over its context says what it needs: `fn layer<L: DeviceLocation, A: HasAlloc<L>>(ctx: &Ctx<'_, L, A>)`",
    note = "`ctx.plain()` and `ctx.with_pool()` need no bound: they have the default allocators"
)]
pub trait Allocators: sealed::SealedAllocators + Copy {
    /// The allocator of host memory.
    type Host: Allocator<Host> + Copy;
    /// The same allocators, with `X` for the device memory of stream `L`.
    type WithDevice<L: DeviceLocation, X: Allocator<L> + AllocHandle>: HasAlloc<L, Alloc = X>;
    /// The handle of the allocator of host memory.
    #[doc(hidden)]
    fn host(self) -> Self::Host;
    /// The same allocators, with `alloc` for device memory.
    #[doc(hidden)]
    fn with_device<L: DeviceLocation, X: Allocator<L> + AllocHandle>(self, alloc: X) -> Self::WithDevice<L, X>;
}

/// The handle of a device allocator, as a context carries it: a reference, or a handle of one's
/// own. A context that has only such a handle allocates host and pinned memory by default.
///
/// Every reference is one. Anyone may implement it, for a `Copy` handle that is passed by value. It
/// has no items and promises nothing: memory comes from the handle only if it is an [`Allocator`],
/// which is unsafe to implement.
#[diagnostic::on_unimplemented(
    message = "a context cannot carry `{Self}` as its device allocator: it is no `AllocHandle`",
    label = "neither a reference nor an `AllocHandle`",
    note = "pass a reference: `ctx.with_device_alloc(&stack)`",
    note = "a handle of your own that is passed by value has the marker: `impl AllocHandle for Mine {{}}`"
)]
pub trait AllocHandle: Copy {}

impl<T: ?Sized> AllocHandle for &T {}
impl AllocHandle for NoDeviceAlloc {}
impl<L: DeviceLocation> AllocHandle for StreamAlloc<L> {}
impl<L: DeviceLocation> AllocHandle for SyncAlloc<L> {}

/// The allocators `A`, with `H` for host memory.
/// [`Ctx::with_host_alloc`](crate::Ctx::with_host_alloc) makes it.
#[derive(Clone, Copy, Debug)]
pub struct WithHost<A, H> {
    below: A,
    host: H,
}

/// The allocators `A`, with `P` for pinned memory.
/// [`Ctx::with_pinned_alloc`](crate::Ctx::with_pinned_alloc) makes it.
#[derive(Clone, Copy, Debug)]
pub struct WithPinned<A, P> {
    below: A,
    pinned: P,
}

impl<A, H> WithHost<A, H> {
    #[inline]
    pub(super) fn new(below: A, host: H) -> Self {
        WithHost { below, host }
    }
}

impl<A, P> WithPinned<A, P> {
    #[inline]
    pub(super) fn new(below: A, pinned: P) -> Self {
        WithPinned { below, pinned }
    }
}

impl<A: AllocHandle> Allocators for A {
    type Host = HostAlloc;
    type WithDevice<L: DeviceLocation, X: Allocator<L> + AllocHandle> = X;
    #[inline]
    fn host(self) -> HostAlloc {
        HostAlloc
    }
    #[inline]
    fn with_device<L: DeviceLocation, X: Allocator<L> + AllocHandle>(self, alloc: X) -> X {
        alloc
    }
}

#[diagnostic::do_not_recommend]
impl<A: Allocators, H: Allocator<Host> + Copy> Allocators for WithHost<A, H> {
    type Host = H;
    type WithDevice<L: DeviceLocation, X: Allocator<L> + AllocHandle> = WithHost<A::WithDevice<L, X>, H>;
    #[inline]
    fn host(self) -> H {
        self.host
    }
    #[inline]
    fn with_device<L: DeviceLocation, X: Allocator<L> + AllocHandle>(self, alloc: X) -> Self::WithDevice<L, X> {
        WithHost::new(self.below.with_device(alloc), self.host)
    }
}

#[diagnostic::do_not_recommend]
impl<A: Allocators, P: Copy> Allocators for WithPinned<A, P> {
    type Host = A::Host;
    type WithDevice<L: DeviceLocation, X: Allocator<L> + AllocHandle> = WithPinned<A::WithDevice<L, X>, P>;
    #[inline]
    fn host(self) -> A::Host {
        self.below.host()
    }
    #[inline]
    fn with_device<L: DeviceLocation, X: Allocator<L> + AllocHandle>(self, alloc: X) -> Self::WithDevice<L, X> {
        WithPinned::new(self.below.with_device(alloc), self.pinned)
    }
}

impl<A: Allocators> HasAlloc<Host> for A {
    type Alloc = A::Host;
    #[inline]
    fn handle(self) -> A::Host {
        self.host()
    }
}

impl<A: AllocHandle, B: Backend> HasAlloc<Pinned<B>> for A {
    type Alloc = PinnedAlloc<B>;
    #[inline]
    fn handle(self) -> PinnedAlloc<B> {
        PinnedAlloc::new()
    }
}

#[diagnostic::do_not_recommend]
impl<A: HasAlloc<Pinned<B>>, H: Allocator<Host> + Copy, B: Backend> HasAlloc<Pinned<B>> for WithHost<A, H> {
    type Alloc = A::Alloc;
    #[inline]
    fn handle(self) -> A::Alloc {
        HasAlloc::<Pinned<B>>::handle(self.below)
    }
}

#[diagnostic::do_not_recommend]
impl<A: Allocators, P: Allocator<Pinned<B>> + Copy, B: Backend> HasAlloc<Pinned<B>> for WithPinned<A, P> {
    type Alloc = P;
    #[inline]
    fn handle(self) -> P {
        self.pinned
    }
}

#[diagnostic::do_not_recommend]
impl<L: DeviceLocation, A: Allocator<L> + AllocHandle> HasAlloc<L> for A {
    type Alloc = A;
    #[inline]
    fn handle(self) -> A {
        self
    }
}

#[diagnostic::do_not_recommend]
impl<L: DeviceLocation, A: HasAlloc<L>, H: Allocator<Host> + Copy> HasAlloc<L> for WithHost<A, H> {
    type Alloc = A::Alloc;
    #[inline]
    fn handle(self) -> A::Alloc {
        HasAlloc::<L>::handle(self.below)
    }
}

#[diagnostic::do_not_recommend]
impl<L: DeviceLocation, A: HasAlloc<L>, P: Copy> HasAlloc<L> for WithPinned<A, P> {
    type Alloc = A::Alloc;
    #[inline]
    fn handle(self) -> A::Alloc {
        HasAlloc::<L>::handle(self.below)
    }
}

/// The seals of `HasAlloc`, with its parameter, and of `Allocators`.
mod sealed {
    use super::{
        AllocHandle, Allocator, Allocators, Backend, DeviceLocation, HasAlloc, Host, Pinned, WithHost, WithPinned,
    };

    /// Implemented for the types that implement `HasAlloc`.
    #[diagnostic::on_unimplemented(
        message = "`HasAlloc` is sealed, and `{Self}` is no allocator for `{D}`",
        label = "not `Copy + Allocator<{D}>`",
        note = "an allocator of your own implements `Allocator<L>`, which is unsafe, or is a `ClosureAlloc`; a context allocates from it by `ctx.with_device_alloc(..)`"
    )]
    pub trait SealedHasAlloc<D> {
        /// Whether `HasAlloc::Alloc` is `PinnedAlloc<B>` as the default of pinned memory, so that
        /// the stream carries out deferred frees before more is locked. `Ctx::alloc_pinned` relies
        /// on it.
        const LOCKS_THROUGH_STREAM: bool = false;
    }
    impl<A: Allocators> SealedHasAlloc<Host> for A {}
    impl<A: AllocHandle, B: Backend> SealedHasAlloc<Pinned<B>> for A {
        const LOCKS_THROUGH_STREAM: bool = true;
    }
    #[diagnostic::do_not_recommend]
    impl<A: HasAlloc<Pinned<B>>, H, B: Backend> SealedHasAlloc<Pinned<B>> for WithHost<A, H> {
        const LOCKS_THROUGH_STREAM: bool = A::LOCKS_THROUGH_STREAM;
    }
    #[diagnostic::do_not_recommend]
    impl<A, P: Allocator<Pinned<B>> + Copy, B: Backend> SealedHasAlloc<Pinned<B>> for WithPinned<A, P> {}
    #[diagnostic::do_not_recommend]
    impl<L: DeviceLocation, A: Allocator<L> + AllocHandle> SealedHasAlloc<L> for A {}
    #[diagnostic::do_not_recommend]
    impl<L: DeviceLocation, A: HasAlloc<L>, H> SealedHasAlloc<L> for WithHost<A, H> {}
    #[diagnostic::do_not_recommend]
    impl<L: DeviceLocation, A: HasAlloc<L>, P> SealedHasAlloc<L> for WithPinned<A, P> {}

    /// Implemented for the types that implement `Allocators`.
    #[diagnostic::on_unimplemented(
        message = "`Allocators` is sealed, and `{Self}` is not made by a context",
        label = "not an `AllocHandle`, `WithHost` or `WithPinned`",
        note = "a context replaces an allocator by `ctx.with_device_alloc(..)`, `ctx.with_host_alloc(..)` or `ctx.with_pinned_alloc(..)`"
    )]
    pub trait SealedAllocators {}
    impl<A: AllocHandle> SealedAllocators for A {}
    impl<A, H> SealedAllocators for WithHost<A, H> {}
    impl<A, P> SealedAllocators for WithPinned<A, P> {}
}
