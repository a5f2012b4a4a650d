//! Borrowed host memory: lent to a stream for a scope that the library closes.

use core::{fmt, marker::PhantomData, ptr::NonNull};

use super::{
    Ctx, Stream,
    frame::settled,
    location::{DeviceLocation, Invariant, Lent},
};
use crate::{
    Element,
    buffer::{View, ViewMut},
    error::Result,
    location::AnyThread,
};

/// What may be borrowed from outside of a stream for the stream's whole life: data that outlives
/// `'s`.
///
/// It comes with the stream from `device.stream(|stream, env| ..)`.
pub struct Env<'s, 'env: 's, L: DeviceLocation> {
    handle: L::Handle,
    /// Invariant in both lifetimes.
    brand: PhantomData<(Invariant<'s>, Invariant<'env>, L, *const ())>,
}

/// A scope in which host slices are lent to stream `L`; from [`Stream::host_scope`].
pub struct HostScope<'h, 'env, L: DeviceLocation> {
    handle: L::Handle,
    /// Invariant in both lifetimes, as in `std::thread::Scope`.
    brand: PhantomData<(Invariant<'h>, Invariant<'env>, L, *const ())>,
}

impl<L: DeviceLocation> Stream<L> {
    /// Lends host slices to the stream for the duration of `f`, and waits for the stream at its
    /// end, also on panic.
    ///
    /// What the slices hold afterwards is what the device wrote. Cost: one driver call at the end,
    /// which waits.
    ///
    /// # Errors
    /// If the stream cannot be waited for and nothing was lent, or if memory that was page-locked
    /// for the scope ([`HostScope::register`]) cannot be unlocked.
    ///
    /// # Aborts
    /// If slices were lent and the stream cannot be waited for, tried twice unless the device is
    /// lost: the process is aborted, because the device might write into memory that its owner is
    /// about to use (rule R12).
    ///
    /// ```
    /// use tidelock::sim;
    ///
    /// let mut read_back = [0_u32; 4];
    /// sim::Device::default().stream(|mut stream, _env| {
    ///     stream.host_scope(|scope| {
    ///         let ctx = scope.ctx().with_pool();
    ///         let mut device = ctx.zeros::<u32>(4)?;
    ///         ctx.copy(scope.source(&[1, 2, 3, 4]), device.view_mut())?;
    ///         ctx.copy(device.view(), scope.target(&mut read_back))
    ///     })?
    /// })??;
    /// assert_eq!(read_back, [1, 2, 3, 4]);
    /// # Ok::<(), tidelock::Error>(())
    /// ```
    #[inline]
    pub fn host_scope<'env, R>(&mut self, f: impl for<'h> FnOnce(&'h HostScope<'h, 'env, L>) -> R) -> Result<R> {
        let handle = self.handle;
        settled(&handle, |_| f(&HostScope { handle, brand: PhantomData }))
    }
}

impl<'h, 'env, L: DeviceLocation> HostScope<'h, 'env, L> {
    /// The capability to enqueue, for as long as the scope.
    #[inline]
    #[must_use]
    pub fn ctx(&self) -> Ctx<'h, L> {
        Ctx::new(self.handle)
    }

    /// Lends a slice to be read.
    #[inline]
    #[must_use]
    pub fn source<T: Element>(&self, slice: &'env [T]) -> View<'h, T, Lent<L>> {
        self.handle.lend();
        lent::<T, L>(slice)
    }

    /// Lends a slice to be written.
    #[inline]
    #[must_use]
    pub fn target<T: Element>(&self, slice: &'env mut [T]) -> ViewMut<'h, T, Lent<L>> {
        self.handle.lend();
        lent_mut::<T, L>(slice)
    }
}

/// Page-locked for the scope.
impl<'h, 'env, L: DeviceLocation> HostScope<'h, 'env, L> {
    /// Page-locks a slice for the scope, and lends it to be read: copies out of it run at the speed
    /// of pinned memory, without a copy by the CPU.
    ///
    /// For memory that exists: the weights in a mapped file. It may be read-only to the program; a
    /// device that cannot tell reading from writing needs it writable. The memory is unlocked when
    /// the scope has waited for the stream, also on panic. Like everything lent, it takes part in
    /// copies only: a batch would merge slices that touch, which are locked apart.
    ///
    /// Cost: a driver call here, which locks each page (1.2 ms for 1 MiB on an H200's host) and may
    /// wait for the device, and one at the end. No driver call for no elements.
    ///
    /// # Errors
    /// What the driver answered:
    /// [`Code::HOST_MEMORY_ALREADY_REGISTERED`](crate::driver::Code::HOST_MEMORY_ALREADY_REGISTERED)
    /// for a slice of which a page is page-locked already, if only for a neighbour's sake. Nothing
    /// is lent then. If the memory cannot be unlocked, tried twice,
    /// [`host_scope`](Stream::host_scope) answers with what the driver said. It is the program's
    /// then as ever, but still page-locked: whoever unmaps it must not map other memory there and
    /// copy from that, because the driver goes on with the pages that it has locked.
    ///
    /// # Aborts
    /// As for [`host_scope`](Stream::host_scope): the slice is on loan.
    ///
    /// ```
    /// use tidelock::sim;
    ///
    /// let weights = vec![1.5_f32; 10_000]; // or a mapped file
    /// sim::Device::default().stream(|mut stream, _env| {
    ///     stream.host_scope(|scope| {
    ///         let ctx = scope.ctx().with_pool();
    ///         let locked = scope.register(&weights)?;
    ///         let mut layer = ctx.zeros::<f32>(4000)?;
    ///         ctx.copy(locked.slice(2000..6000)?, layer.view_mut())
    ///     })?
    /// })??;
    /// # Ok::<(), tidelock::Error>(())
    /// ```
    #[inline]
    pub fn register<T: Element>(&self, slice: &'env [T]) -> Result<View<'h, T, Lent<L>>> {
        // SAFETY:
        // - The borrow outlives the frame that closes the scope ('env is invariant), and nobody
        //   writes through it.
        unsafe { self.handle.register(NonNull::from(slice).cast(), size_of_val(slice), true) }?;
        Ok(lent::<T, L>(slice))
    }

    /// As [`register`](HostScope::register), to be written.
    ///
    /// # Errors
    /// As for [`register`](HostScope::register).
    ///
    /// # Aborts
    /// As for [`register`](HostScope::register).
    #[inline]
    pub fn register_mut<T: Element>(&self, slice: &'env mut [T]) -> Result<ViewMut<'h, T, Lent<L>>> {
        // SAFETY:
        // - As in `register`; the borrow is exclusive, so that the memory is writable.
        unsafe { self.handle.register(NonNull::from(&mut *slice).cast(), size_of_val(slice), false) }?;
        Ok(lent_mut::<T, L>(slice))
    }
}

impl<'s, L: DeviceLocation> Env<'s, '_, L> {
    pub(crate) fn new(handle: L::Handle) -> Self {
        Env { handle, brand: PhantomData }
    }

    pub(super) fn handle(&self) -> L::Handle {
        self.handle
    }

    /// Lends a slice to be read by the stream for the rest of its life.
    #[inline]
    #[must_use]
    pub fn source<T: Element>(&self, slice: &'s [T]) -> View<'s, T, Lent<L>> {
        self.handle.lend_for_life();
        lent::<T, L>(slice)
    }

    /// Lends a slice to be written by the stream for the rest of its life.
    #[inline]
    #[must_use]
    pub fn target<T: Element>(&self, slice: &'s mut [T]) -> ViewMut<'s, T, Lent<L>> {
        self.handle.lend_for_life();
        lent_mut::<T, L>(slice)
    }
}

/// A view of memory whose loan the caller has noted.
fn lent<'a, T, L: DeviceLocation>(slice: &[T]) -> View<'a, T, Lent<L>> {
    // SAFETY:
    // - The slice's memory stays, and nobody writes it, until the frame that closes the scope has
    //   waited for the stream: its borrow outlives that frame ('env and 's are invariant), and the
    //   frame aborts rather than return unsettled.
    // - Lent memory takes part in no batch, so that its edges touch nothing.
    unsafe { View::from_raw_parts(NonNull::from(slice).cast(), slice.len()) }
}

/// An exclusive view of memory whose loan the caller has noted.
fn lent_mut<'a, T, L: DeviceLocation>(slice: &mut [T]) -> ViewMut<'a, T, Lent<L>> {
    let len = slice.len();
    // SAFETY:
    // - As in `lent`; the borrow is exclusive, so that nobody else touches the memory until then.
    unsafe { ViewMut::from_raw_parts(NonNull::from(slice).cast(), len) }
}

// SAFETY:
// - No device location is `AnyThread`: there are no such values. Written out so that the compiler
//   gives its reason.
unsafe impl<L: DeviceLocation + AnyThread> Send for Env<'_, '_, L> {}
// SAFETY:
// - As above.
unsafe impl<L: DeviceLocation + AnyThread> Sync for Env<'_, '_, L> {}
// SAFETY:
// - As above.
unsafe impl<L: DeviceLocation + AnyThread> Send for HostScope<'_, '_, L> {}
// SAFETY:
// - As above.
unsafe impl<L: DeviceLocation + AnyThread> Sync for HostScope<'_, '_, L> {}

impl<L: DeviceLocation> fmt::Debug for Env<'_, '_, L> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Env")
    }
}
impl<L: DeviceLocation> fmt::Debug for HostScope<'_, '_, L> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HostScope")
    }
}
