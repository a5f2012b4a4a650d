//! Borrowed host memory, lent to a stream for a scope that the library closes.

use core::{fmt, marker::PhantomData, ptr::NonNull};

use super::{
    Ctx, Stream,
    frame::with_scope,
    location::{DeviceLocation, Invariant, Lent},
};
use crate::{
    Element,
    buffer::{View, ViewMut},
    error::Result,
    location::AnyThread,
};

/// The capability to lend host data to a stream for the stream's whole life. The data outlives
/// `'s`.
///
/// `device.stream(|stream, env| ..)` passes it with the stream.
pub struct Env<'s, 'env: 's, L: DeviceLocation> {
    handle: L::Handle,
    /// Invariant in both lifetimes.
    brand: PhantomData<(Invariant<'s>, Invariant<'env>, L, *const ())>,
}

/// A scope in which host slices are lent to stream `L`. [`Stream::host_scope`] opens one.
///
/// What is lent outlives the scope:
/// [how to read the messages](crate::lifetime_errors#an-operand-ends-before-its-batch).
pub struct HostScope<'h, 'env, L: DeviceLocation> {
    handle: L::Handle,
    /// Invariant in both lifetimes, as in `std::thread::Scope`.
    brand: PhantomData<(Invariant<'h>, Invariant<'env>, L, *const ())>,
}

impl<L: DeviceLocation> Stream<L> {
    /// Lends host slices to the stream for the duration of `f`, and waits for the stream at its
    /// end, also on panic.
    ///
    /// Afterwards the slices hold what the device wrote. Cost: one driver call at the end, which
    /// waits.
    ///
    /// # Errors
    /// If the stream cannot be waited for and nothing was lent, or if memory that was page-locked
    /// for the scope ([`HostScope::register`]) cannot be unlocked.
    ///
    /// # Aborts
    /// If slices were lent and the stream cannot be waited for. The wait is tried twice unless the
    /// device is broken. The process is aborted because the device may still write into memory that
    /// its owner is about to use (rule R12).
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
        with_scope(&handle, |_| f(&HostScope { handle, brand: PhantomData }))
    }
}

impl<'h, 'env, L: DeviceLocation> HostScope<'h, 'env, L> {
    /// The capability to enqueue and allocate, for the length of the scope.
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

/// Page-locking for the scope.
impl<'h, 'env, L: DeviceLocation> HostScope<'h, 'env, L> {
    /// Page-locks a slice for the scope, and lends it to be read. Copies out of it run at the speed
    /// of pinned memory, without a copy by the CPU.
    ///
    /// For memory that the program already has, such as the weights in a mapped file. It may be
    /// read-only to the program, unless the device does not support read-only registration. The
    /// memory is unlocked when the scope has waited for the stream, also on panic. Like all lent
    /// memory, it is used by plain copies only: a batch would merge adjacent slices, which are
    /// registered separately.
    ///
    /// Cost: a driver call here, which locks each page (1.2 ms for 1 MiB on an H200's host) and may
    /// wait for the device, and one at the end of the scope. An empty slice costs no driver call.
    ///
    /// # Errors
    /// The driver's error:
    /// [`Code::HOST_MEMORY_ALREADY_REGISTERED`](crate::driver::Code::HOST_MEMORY_ALREADY_REGISTERED)
    /// if a page of the slice is page-locked already, also if that is for an adjacent slice.
    /// Nothing is lent then.
    ///
    /// If the memory cannot be unlocked, which is tried twice, [`host_scope`](Stream::host_scope)
    /// returns the driver's error. The memory then still belongs to the program, but it stays
    /// page-locked. If the program unmaps it, it must not copy from other memory that is later
    /// mapped at the same address: the driver still uses the pages that it has locked.
    ///
    /// # Aborts
    /// As for [`host_scope`](Stream::host_scope), because the slice is on loan.
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
        // - P6: the borrow outlives the frame that closes the scope ('env is invariant), so that
        //   the memory stays mapped. It is shared, and the registration is read-only.
        unsafe { self.handle.register(NonNull::from(slice).cast(), size_of_val(slice), true) }?;
        Ok(lent::<T, L>(slice))
    }

    /// As [`register`](HostScope::register), for a slice that is also written.
    ///
    /// # Errors
    /// As for [`register`](HostScope::register).
    ///
    /// # Aborts
    /// As for [`register`](HostScope::register).
    #[inline]
    pub fn register_mut<T: Element>(&self, slice: &'env mut [T]) -> Result<ViewMut<'h, T, Lent<L>>> {
        // SAFETY:
        // - As in `register`. The borrow is exclusive, so that the memory is writable (P6).
        unsafe { self.handle.register(NonNull::from(&mut *slice).cast(), size_of_val(slice), false) }?;
        Ok(lent_mut::<T, L>(slice))
    }
}

impl<'s, L: DeviceLocation> Env<'s, '_, L> {
    pub(crate) fn new(handle: L::Handle) -> Self {
        Env { handle, brand: PhantomData }
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

/// A view of `slice`, whose loan the caller has recorded with `lend` or `lend_for_life`.
fn lent<'a, T, L: DeviceLocation>(slice: &[T]) -> View<'a, T, Lent<L>> {
    // SAFETY:
    // - The memory stays valid, and is not written, until the frame that closes the scope has
    //   waited for the stream. The borrow outlives that frame ('env and 's are invariant), and the
    //   frame aborts the process if it cannot wait (C1, C4).
    // - Lent memory is no operand of a batch, so that adjacent slices are not merged (C2).
    unsafe { View::from_raw_parts(NonNull::from(slice).cast(), slice.len()) }
}

/// An exclusive view of `slice`, whose loan the caller has recorded with `lend` or `lend_for_life`.
fn lent_mut<'a, T, L: DeviceLocation>(slice: &mut [T]) -> ViewMut<'a, T, Lent<L>> {
    let len = slice.len();
    // SAFETY:
    // - As in `lent`. The borrow is exclusive, so that nothing else uses the memory until then.
    unsafe { ViewMut::from_raw_parts(NonNull::from(slice).cast(), len) }
}

// SAFETY:
// - No device location is `AnyThread`, so that this applies to no type. It makes the compiler give
//   its reason.
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
