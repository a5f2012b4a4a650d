//! Locations: types that say where memory is and who may use it. The two locations of the host,
//! [`Host`] and [`Pinned`], are in this module; those of a stream are in [`stream`](crate::stream).
//!
//! | location | the host may | stream `L` may | others may |
//! |---|---|---|---|
//! | [`Host`] | read and write | read during a call | nothing |
//! | [`Pinned<B>`] | read and write | nothing, until [`stage`](crate::Buffer::stage) | nothing |
//! | [`Staged<L>`](crate::stream::Staged) | nothing, until `L` is synchronised | copy, batch, launch | nothing |
//! | [`Lent<L>`](crate::stream::Lent) | nothing, until the scope ends | copy | nothing |
//! | [`Arriving<B>`](crate::stream::Arriving) | nothing, until it has waited for it | nothing | nothing |
//! | `L` ([`Sim<'s>`](crate::sim::Sim)) | nothing | everything | nothing |

use core::{fmt, marker::PhantomData};

use tidelock_driver::{Backend, HostAccess};

use crate::alloc::{Allocator, HostAlloc, PinnedAlloc};

/// A location of memory. Sealed: the locations are those of the table in this [module](self).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a location of memory",
    label = "expected `Host`, `Pinned<B>`, `Staged<L>`, `Lent<L>` or the location of a device stream",
    note = "generic code bounds the location: `L: DeviceLocation` for the memory of a stream, `D: Location` for any",
    note = "host memory of another kind is a buffer too: `Buffer::from_owner(mapping)`"
)]
pub trait Location: sealed::Sealed + Sized {
    /// The allocator of a [`Buffer`](crate::Buffer) in this location that names no other.
    type DefaultAlloc: Allocator<Self>;
    /// The name of the location in messages.
    const NAME: &'static str;
    /// Whether it is a device's own memory.
    #[doc(hidden)]
    const IS_DEVICE: bool = false;

    /// Reports to a backend that checks order that the host touches memory of this location (P4).
    ///
    /// # Safety
    /// - As for [`Backend::host_touches`], if the host may use memory of this location.
    #[doc(hidden)]
    #[inline]
    unsafe fn host_touches(access: HostAccess) {
        let _ = access;
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

/// Memory that any thread may use and give back: the host's. A stream's memory stays on the
/// stream's thread. Sealed.
#[diagnostic::on_unimplemented(
    message = "what belongs to a stream stays on the stream's thread, and `{Self}` belongs to one",
    label = "neither `Send` nor `Sync`",
    note = "open a stream of its own on the other thread",
    note = "host and pinned buffers are `Send`; device memory changes threads as `ctx.detach(buffer)?`, and is shared as `buffer.share()`",
    note = "a pending buffer changes threads as `pending.detach()`, and is waited for or awaited there"
)]
pub trait AnyThread: Location {}

/// Plain host memory.
#[derive(Clone, Copy, Debug)]
pub enum Host {}

/// Page-locked host memory of backend `B`. The host uses it until it is staged.
pub struct Pinned<B>(PhantomData<B>);

impl Location for Host {
    type DefaultAlloc = HostAlloc;
    const NAME: &'static str = "host";
}
impl<B: Backend> Location for Pinned<B> {
    type DefaultAlloc = PinnedAlloc<B>;
    const NAME: &'static str = "pinned";

    #[inline]
    unsafe fn host_touches(access: HostAccess) {
        // SAFETY:
        // - The caller keeps the same contract (P4).
        unsafe { B::host_touches(access) }
    }
}

impl HostAccessible for Host {}
impl<B: Backend> HostAccessible for Pinned<B> {}

impl AnyThread for Host {}
impl<B: Backend> AnyThread for Pinned<B> {}

impl<B> fmt::Debug for Pinned<B> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pinned")
    }
}

/// The traits of this file have no parameter, so that they are sealed if `Self` is. One seal here is
/// for a trait with a parameter, and has it too.
pub(crate) mod sealed {
    use super::{Backend, Host, Pinned};

    /// Implemented for the locations of this crate only.
    #[diagnostic::on_unimplemented(
        message = "the locations of memory are sealed, and `{Self}` is none of them",
        label = "not `Host`, `Pinned<B>`, `Staged<L>`, `Lent<L>` or the location of a device stream",
        note = "host memory of another kind is a buffer too: `Buffer::from_owner(mapping)`, or `Buffer<T, Host, A>` with an `Allocator<Host>` of your own"
    )]
    pub trait Sealed {}
    impl Sealed for Host {}
    impl<B: Backend> Sealed for Pinned<B> {}

    /// Implemented for two equal types only.
    pub trait SealedSameBackend<B> {}
    impl<B> SealedSameBackend<B> for B {}
}
