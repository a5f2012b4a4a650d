//! Where memory lives and who may touch it, as types.
//!
//! | location | the host may | stream `L` may | others may |
//! |---|---|---|---|
//! | [`Host`] | read and write | read during a call | nothing |
//! | [`Pinned<B>`] | read and write | nothing, until [`stage`](crate::Buffer::stage) | nothing |
//! | [`Staged<L>`] | nothing, until `L` is synchronised | copy, batch, launch | nothing |
//! | [`Lent<L>`] | nothing, until the scope ends | copy | nothing |
//! | `L` ([`Sim<'s>`](crate::Sim)) | nothing | everything | nothing |

use core::{fmt, marker::PhantomData, ops::Deref};

use crate::{
    alloc::{Allocator, HostAlloc, PinnedAlloc, StagedAlloc, StreamAlloc},
    device::Backend,
    stream::Core,
};

/// A place for memory, as a type. Sealed: the places are the ones in this module and the devices.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a location of memory",
    label = "expected `Host`, `Pinned<B>`, `Staged<L>`, `Lent<L>` or the location of a device stream"
)]
pub trait Location: sealed::Sealed + Sized {
    /// The allocator a [`Buffer`](crate::Buffer) of this location has unless it names another.
    type DefaultAlloc: Allocator<Self>;
    /// What messages call it.
    const NAME: &'static str;
    /// Whether it is a device's own memory.
    #[doc(hidden)]
    const IS_DEVICE: bool = false;

    /// Tells a backend that checks order that the host touches memory of this location.
    ///
    /// # Safety
    /// - As for [`Backend::host_touches`], if the host may touch memory of this location.
    #[doc(hidden)]
    #[inline]
    unsafe fn host_touches(ptr: *const u8, bytes: usize, writes: bool, what: &'static str) {
        let _ = (ptr, bytes, writes, what);
    }
}

/// Memory the host may dereference. Sealed.
#[diagnostic::on_unimplemented(
    message = "the host may not touch memory in `{Self}`",
    label = "`{Self}` is not host-accessible",
    note = "device memory: copy it down with `ctx.copy(buffer.view(), staged.view_mut())`, then read `staged.peek(&stream.synchronize()?)`",
    note = "staged memory belongs to its stream: get it back with `staged.reclaim(&stream.synchronize()?)` or `ctx.fence(staged)?.wait()?`"
)]
pub trait HostAccessible: Location {}

/// Memory that any thread may use and give back: the host's. A stream's memory stays on the stream's thread. Sealed.
#[diagnostic::on_unimplemented(
    message = "what belongs to a stream stays on the stream's thread, and `{Self}` belongs to one",
    label = "neither `Send` nor `Sync`",
    note = "open a stream of its own on the other thread",
    note = "host and pinned buffers are `Send`; device memory changes threads as `ctx.detach(buffer)?`, and is shared as `Frozen`"
)]
pub trait AnyThread: Location {}

/// Which family of devices a location belongs to. A supertrait of [`DeviceLocation`]. Sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` belongs to no family of devices",
    label = "expected the location of a device stream",
    note = "engine code takes the location as a parameter: `fn step<L: DeviceLocation>(ctx: &Ctx<'_, L>)`"
)]
pub trait OnBackend: sealed::Sealed + Sized {
    /// The family.
    type Backend: Backend;
    /// Page-locked memory of that family: always `Pinned<Self::Backend>`, short to write in generic code.
    type Pinned;
}

/// Device memory of one stream, named by the stream's brand. Sealed.
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
    type Handle: Copy + Deref<Target = Core<Self::Backend>>;
}

/// Memory that operations of stream `L` may use: its own, staged for it, or lent to it. Sealed.
#[diagnostic::on_unimplemented(
    message = "memory in `{Self}` cannot be used by stream `{L}`",
    label = "`{Self}` does not belong to stream `{L}`",
    note = "pinned memory: hand it to the stream first with `pinned.stage(&ctx)`",
    note = "a host slice: copy it up with `ctx.upload(&slice, destination)`, or lend it in `stream.host_scope(|h| ..)`",
    note = "memory of another stream: `transfer` the buffer, or `lend` a view of it"
)]
pub trait OnStream<L: DeviceLocation>: Location {}

/// Memory that kernels and batches of stream `L` may use: its own, or staged for it. Sealed.
#[diagnostic::on_unimplemented(
    message = "kernels, fills and batches of stream `{L}` cannot use memory in `{Self}`",
    label = "`{Self}` cannot be reached by stream `{L}`",
    note = "pinned memory: hand it to the stream first with `pinned.stage(&ctx)`",
    note = "a lent host slice takes part in plain copies only: `ctx.copy(lent, device)`",
    note = "memory of another stream: `transfer` the buffer, or `lend` a view of it"
)]
pub trait KernelAccessible<L: DeviceLocation>: OnStream<L> {}

/// What a batch of stream `L` may read: memory its kernels may use, and host memory, which is read during the call. Sealed.
#[diagnostic::on_unimplemented(
    message = "a batch of stream `{L}` cannot read memory in `{Self}`",
    label = "`{Self}` is not a source for stream `{L}`",
    note = "pinned memory: hand it to the stream first with `pinned.stage(&ctx)`",
    note = "a host slice is a source as `Buffer<T, Host>` or `View::from(&slice[..])`",
    note = "memory of another stream: `transfer` the buffer, or `lend` a view of it"
)]
pub trait BatchSource<L: DeviceLocation>: Location {
    /// Whether the driver must read the source before the call returns.
    #[doc(hidden)]
    const DURING_CALL: bool;
}

/// Invariance in a lifetime: what makes a brand a brand (rule R1).
pub(crate) type Invariant<'a> = PhantomData<fn(&'a ()) -> &'a ()>;

/// Plain host memory.
#[derive(Clone, Copy, Debug)]
pub enum Host {}

/// Page-locked host memory of backend `B`: the host's, until it is staged.
pub struct Pinned<B>(PhantomData<B>);

/// Page-locked memory that stream `L` may be touching: the host may not.
pub struct Staged<L>(PhantomData<L>);

/// Host memory lent to stream `L` for a scope, page-locked for it or not: plain copies only.
pub struct Lent<L>(PhantomData<L>);

impl Location for Host {
    type DefaultAlloc = HostAlloc;
    const NAME: &'static str = "host";
}
impl<B: Backend> Location for Pinned<B> {
    type DefaultAlloc = PinnedAlloc<B>;
    const NAME: &'static str = "pinned";

    #[inline]
    unsafe fn host_touches(ptr: *const u8, bytes: usize, writes: bool, what: &'static str) {
        // SAFETY:
        // - The caller keeps the same contract.
        unsafe { B::host_touches(ptr, bytes, writes, what) }
    }
}
impl<L: DeviceLocation> Location for Staged<L> {
    type DefaultAlloc = StagedAlloc<L>;
    const NAME: &'static str = "staged";
}
impl<L: DeviceLocation> Location for Lent<L> {
    type DefaultAlloc = NoLentAlloc;
    const NAME: &'static str = "lent";
}

/// Lent memory is never allocated: this type has no values.
#[derive(Clone, Copy, Debug)]
pub enum NoLentAlloc {}

impl HostAccessible for Host {}
impl<B: Backend> HostAccessible for Pinned<B> {}

impl AnyThread for Host {}
impl<B: Backend> AnyThread for Pinned<B> {}
// No device location is `AnyThread`: there is no such memory. Written out so that memory lent or staged and a stream's own
// have one reason, which the compiler gives once.
impl<L: DeviceLocation + AnyThread> AnyThread for Staged<L> {}
impl<L: DeviceLocation + AnyThread> AnyThread for Lent<L> {}

impl<L: DeviceLocation> OnStream<L> for L {}
impl<L: DeviceLocation> OnStream<L> for Staged<L> {}
impl<L: DeviceLocation> OnStream<L> for Lent<L> {}

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

impl<B> fmt::Debug for Pinned<B> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pinned")
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

/// The traits of this file have no other parameter than a [`DeviceLocation`], so that sealing `Self` seals them.
pub(crate) mod sealed {
    use super::{Backend, DeviceLocation, Host, Lent, Pinned, Staged};

    /// Implemented for the locations of this crate only.
    #[diagnostic::on_unimplemented(
        message = "the locations of memory are sealed, and `{Self}` is none of them",
        label = "not `Host`, `Pinned<B>`, `Staged<L>`, `Lent<L>` or the location of a device stream",
        note = "host memory of another kind is a buffer too: `Buffer::from_owner(mapping)`, or `Buffer<T, Host, A>` with an `Allocator<Host>` of your own"
    )]
    pub trait Sealed {}
    impl Sealed for Host {}
    impl<B: Backend> Sealed for Pinned<B> {}
    impl<L: DeviceLocation> Sealed for Staged<L> {}
    impl<L: DeviceLocation> Sealed for Lent<L> {}
}
