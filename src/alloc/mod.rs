//! Allocators: where memory comes from, and, by the type of a buffer, where it is freed.
//!
//! The free function follows from the allocator's type (rule R17): a [`Buffer`](crate::Buffer)
//! carries its allocator as a copyable handle of at most one word and calls its
//! [`dealloc`](Allocator::dealloc) when it is dropped.
//!
//! This module has the trait [`Allocator`], the allocators of the host ([`HostAlloc`],
//! [`PinnedAlloc`]), the arena [`Stack`], and [`ClosureAlloc`] for allocators of your own. The
//! allocators of a stream are in [`stream`](crate::stream).

mod closures;
mod host;
mod pinned;
mod stack;

use core::{alloc::Layout, ptr::NonNull};

pub use self::{
    closures::ClosureAlloc,
    host::HostAlloc,
    pinned::PinnedAlloc,
    stack::{AlignTo, Alignment, Stack, StackUsage},
};
pub use tidelock_driver::{AllocError, PinnedPool, PinnedUsage};

use crate::{error::Shortage, location::Location};

/// Allocates and frees memory of location `D`. Unsafe to implement.
///
/// A copy of the handle is kept in every buffer, so that it is a reference or zero-sized. It has no
/// reference count.
///
/// # Safety
/// The implementation promises, for every successful [`alloc`](Allocator::alloc):
/// - The memory is exclusively the caller's, in `D`, at least `layout.size()` bytes, aligned to
///   `layout.align()`.
/// - It stays so until [`dealloc`](Allocator::dealloc), however the handle is moved or copied, and
///   for as long as a copy of the handle exists.
/// - Two allocations that are not ranges of one driver allocation are never adjacent: at least one
///   byte lies between them (rule R10: batches merge adjacent copies, and no copy may span two
///   driver allocations, C2 and M4 of the driver contract).
/// - `dealloc` of device memory may be called while earlier work of the stream still uses it: the
///   memory is allocated again only in stream order, or after that work is known to have finished.
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

    /// Frees memory that `alloc` returned.
    ///
    /// # Safety
    /// - `ptr` comes from `alloc(layout)` of this allocator or of a copy of its handle, and was not
    ///   freed before.
    /// - The host neither uses the memory any more, nor enqueues work that does.
    unsafe fn dealloc(&self, ptr: NonNull<u8>, layout: Layout);

    /// How much memory there is behind the allocator, for the error of a request that it has just
    /// refused. It may make driver calls.
    #[inline]
    fn shortage(&self) -> Option<Shortage> {
        None
    }
}
