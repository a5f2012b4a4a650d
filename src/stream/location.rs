//! The locations that belong to a stream: its own memory, memory that is staged for it, and memory
//! that is lent to it. The traits of this module say what a stream may do with each.

#![forbid(unsafe_code)]

use core::{fmt, marker::PhantomData, ops::Deref};

use tidelock_driver::Backend;

use super::{StagedAlloc, StreamAlloc, StreamState, alloc::NoLentAlloc};
use crate::location::{AnyThread, Host, Location, Pinned, sealed};

/// Which family of devices a location belongs to. A supertrait of [`DeviceLocation`]. Sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` belongs to no family of devices",
    label = "expected the location of a device stream",
    note = "engine code takes the location as a parameter: `fn step<L: DeviceLocation>(ctx: &Ctx<'_, L>)`"
)]
pub trait OnBackend: sealed::Sealed + Sized {
    /// The family.
    type Backend: Backend;
    /// Page-locked memory of that family: always `Pinned<Self::Backend>`, as a short name for
    /// generic code.
    type Pinned;
}

/// The backend `B`: the same family of devices as that of another stream or of pinned memory.
/// Sealed.
///
/// It is a bound and not an equality of associated types, so that rustc prints its notes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` and `{B}` are different families of devices",
    label = "`{Self}` is not `{B}`",
    note = "pinned memory is allocated with the context of the stream that it is staged for: `ctx.alloc_pinned::<T>(len)`",
    note = "code that is generic over two streams says that they are of one family: `M: DeviceLocation + OnBackend<Backend = L::Backend>`",
    note = "memory goes from one family to another through the host: `ctx.fence(staged)?.wait()?` on the one stream, `ctx.upload(&slice, destination)` on the other"
)]
pub trait SameBackend<B: Backend>: Backend + sealed::SealedSameBackend<B> {
    /// The same state, as that of a stream of `B`.
    #[doc(hidden)]
    fn same_state(state: &StreamState<Self>) -> &StreamState<B>;
}

impl<B: Backend> SameBackend<B> for B {
    #[inline]
    fn same_state(state: &StreamState<B>) -> &StreamState<B> {
        state
    }
}

/// Device memory of one stream, named by the stream's brand: [`On<'s, B>`](On). Sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the memory of a device stream",
    label = "expected a location such as `Sim<'s>`",
    note = "engine code takes the location as a parameter: `fn step<L: DeviceLocation>(ctx: &Ctx<'_, L>)`"
)]
pub trait DeviceLocation:
    Location<DefaultAlloc = StreamAlloc<Self>> + OnBackend<Pinned = Pinned<<Self as OnBackend>::Backend>>
{
    /// A copyable reference to the stream's host-side state.
    #[doc(hidden)]
    type Handle: Copy + Deref<Target = StreamState<Self::Backend>>;
}

/// Memory that operations of stream `L` may use: its own, staged for it, or lent to it. Sealed.
#[diagnostic::on_unimplemented(
    message = "memory in `{Self}` cannot be used by stream `{L}`",
    label = "`{Self}` does not belong to stream `{L}`",
    note = "pinned memory: hand it to the stream first with `pinned.stage(&ctx)`",
    note = "a host slice: copy it up with `ctx.upload(&slice, destination)`, or lend it in `stream.host_scope(|h| ..)`",
    note = "memory of another stream: `transfer` the buffer, or `lend` a view of it; detached memory: `attach` it first"
)]
pub trait OnStream<L: DeviceLocation>: Location {
    /// Whether a batch can use the memory too.
    #[doc(hidden)]
    const IN_BATCHES: bool = true;
}

/// Memory that kernels and batches of stream `L` may use: its own, or staged for it. Sealed.
#[diagnostic::on_unimplemented(
    message = "kernels, fills and batches of stream `{L}` cannot use memory in `{Self}`",
    label = "`{Self}` cannot be reached by stream `{L}`",
    note = "pinned memory: hand it to the stream first with `pinned.stage(&ctx)`",
    note = "a lent host slice takes part in plain copies only: `ctx.copy(lent, device)`",
    note = "memory of another stream: `transfer` the buffer, or `lend` a view of it; detached memory: `attach` it first"
)]
pub trait KernelAccessible<L: DeviceLocation>: OnStream<L> {}

/// Memory that a batch of stream `L` may read: memory that its kernels may use, and host memory,
/// which is read during the call. Sealed.
#[diagnostic::on_unimplemented(
    message = "a batch of stream `{L}` cannot read memory in `{Self}`",
    label = "`{Self}` is not a source for stream `{L}`",
    note = "pinned memory: hand it to the stream first with `pinned.stage(&ctx)`",
    note = "a host slice is a source as `Buffer<T, Host>` or `View::from(&slice[..])`",
    note = "memory of another stream: `transfer` the buffer, or `lend` a view of it; detached memory: `attach` it first"
)]
pub trait BatchSource<L: DeviceLocation>: Location {
    /// Whether the driver must read the source before the call returns.
    #[doc(hidden)]
    const DURING_CALL: bool;
}

/// A marker that makes a type invariant in a lifetime, as a brand must be (rule R1).
pub(crate) type Invariant<'a> = PhantomData<fn(&'a ()) -> &'a ()>;

/// The memory of one stream of backend `B`, branded with `'s`. `Sim<'s>` and `Cuda<'s>` are
/// aliases.
///
/// Where two brands meet, the compiler writes about lifetimes:
/// [how to read the messages](crate::lifetime_errors#two-streams-by-name).
pub struct On<'s, B>(Invariant<'s>, PhantomData<fn() -> B>);

/// Page-locked memory that stream `L` may be using, and the host may not.
pub struct Staged<L>(PhantomData<L>);

/// Host memory that is lent to stream `L` for a scope. It may be page-locked for the scope. Only
/// plain copies use it.
pub struct Lent<L>(PhantomData<L>);

impl<'s, B: Backend> Location for On<'s, B> {
    type DefaultAlloc = StreamAlloc<On<'s, B>>;
    const NAME: &'static str = "device";
    const IS_DEVICE: bool = true;
}
impl<B: Backend> OnBackend for On<'_, B> {
    type Backend = B;
    type Pinned = Pinned<B>;
}
impl<'s, B: Backend> DeviceLocation for On<'s, B> {
    type Handle = &'s StreamState<B>;
}
impl<L: DeviceLocation> Location for Staged<L> {
    type DefaultAlloc = StagedAlloc<L>;
    const NAME: &'static str = "staged";
}
impl<L: DeviceLocation> Location for Lent<L> {
    type DefaultAlloc = NoLentAlloc;
    const NAME: &'static str = "lent";
}

// No device location is `AnyThread`, so that these apply to no type. They make the compiler give
// one reason for staged, lent and device memory.
impl<L: DeviceLocation + AnyThread> AnyThread for Staged<L> {}
impl<L: DeviceLocation + AnyThread> AnyThread for Lent<L> {}

impl<L: DeviceLocation> OnStream<L> for L {}
impl<L: DeviceLocation> OnStream<L> for Staged<L> {}
impl<L: DeviceLocation> OnStream<L> for Lent<L> {
    const IN_BATCHES: bool = false;
}

impl<L: DeviceLocation> KernelAccessible<L> for L {}
impl<L: DeviceLocation> KernelAccessible<L> for Staged<L> {}

impl<L: DeviceLocation> BatchSource<L> for L {
    const DURING_CALL: bool = false;
}
impl<L: DeviceLocation> BatchSource<L> for Staged<L> {
    const DURING_CALL: bool = false;
}
impl<L: DeviceLocation> BatchSource<L> for Host {
    const DURING_CALL: bool = true;
}

// The other traits of this file have no parameter but a `DeviceLocation`, so that they are sealed if
// `Self` is.
impl<B: Backend> sealed::Sealed for On<'_, B> {}
impl<L: DeviceLocation> sealed::Sealed for Staged<L> {}
impl<L: DeviceLocation> sealed::Sealed for Lent<L> {}

impl<B> fmt::Debug for On<'_, B> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("On")
    }
}
impl<L> fmt::Debug for Staged<L> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Staged")
    }
}
impl<L> fmt::Debug for Lent<L> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lent")
    }
}
