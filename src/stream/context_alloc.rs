//! What a context allocates from: its device allocator, and the defaults of host and pinned memory.

#![forbid(unsafe_code)]

use tidelock_driver::Backend;

use super::location::DeviceLocation;
use crate::{
    alloc::{Allocator, HostAlloc, PinnedAlloc},
    location::{Host, Location, Pinned},
};

/// What a context can allocate from: its device allocator, and the defaults of host and pinned
/// memory. Sealed: every `Copy` [`Allocator`] of a stream implements it.
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

/// The allocator of a context with device allocator `A`, for location `D`.
pub type AllocOf<A, D> = <A as HasAlloc<D>>::Alloc;

impl<A: Copy> HasAlloc<Host> for A {
    type Alloc = HostAlloc;
    #[inline]
    fn handle(self) -> HostAlloc {
        HostAlloc
    }
}

impl<A: Copy, B: Backend> HasAlloc<Pinned<B>> for A {
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

/// The seal of `HasAlloc`, with its parameter.
mod sealed {
    use super::{Allocator, Backend, DeviceLocation, Host, Pinned};

    /// Implemented for the types that implement `HasAlloc`.
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
