//! A real device without hardware: opaque addresses, a thread for each stream, and work that runs later.
//!
//! `Sim` is not a mock that returns at once. Device addresses are never mapped, so that the host cannot dereference them;
//! operations run on the stream's own thread after a seeded delay; fresh memory is poisoned; frees and reuse are
//! stream-ordered; copies that a driver refuses are refused. Users test their engines with it, and so does this crate.
//!
//! [`Device`] is what an engine opens. Behind it stands an [`Engine`], a driver with handles, calls and codes like
//! CUDA's, which can be told to fail the nth call and asked what it was called for. Page-locked memory belongs to the
//! process: [`pinned_counts`] and [`with_pinned_faults`] are for the calls that lock it.
//!
//! ```
//! use tidelock::{Buffer, sim};
//!
//! let device = sim::Device::new(sim::Options::default().seed(7));
//! let doubled = device.stream(|mut stream, _env| {
//!     let ctx = stream.ctx().with_pool();
//!     let mut x = ctx.zeros::<u32>(3)?;
//!     ctx.upload(&[1, 2, 3], x.view_mut())?;
//!     ctx.launch((x.view_mut(), 2_u32), |(x, factor)| x.iter_mut().for_each(|x| *x *= factor))?;
//!     let out = ctx.init_from(ctx.alloc_pinned(3)?.stage(&ctx), x.view())?;
//!     let out = out.reclaim(&stream.synchronize()?);
//!     Ok::<_, tidelock::Error>(out.to_vec())
//! })??;
//! assert_eq!(doubled, [2, 4, 6]);
//! # Ok::<(), tidelock::Error>(())
//! ```

pub mod engine;
mod launch;
mod moves;
mod options;
mod queue;

use core::{fmt, num::NonZero, ptr::NonNull};

pub use self::{
    engine::{Call, Counts, Engine, Fault, Report, Sabotage, Traffic, Use, pinned_counts, with_pinned_faults},
    launch::{Arg, Args},
    options::{Delay, Options},
    queue::SimQueue,
};
use crate::{
    alloc::{PinnedPool, StreamAlloc},
    device::{Backend, code::DriverError, sealed::Sealed},
    error::Result,
    location::{DeviceLocation, Invariant, Location, OnBackend, Pinned, sealed},
    stream::{Core, Env, Stream, StreamOptions, enter},
};

/// The memory of one simulated stream, branded with `'s`.
pub struct Sim<'s>(Invariant<'s>);

/// The family of simulated devices: names their pinned memory, [`Pinned<SimBackend>`](Pinned).
#[derive(Clone, Copy, Debug)]
pub enum SimBackend {}

/// A simulated device.
#[derive(Clone, Debug)]
pub struct Device {
    engine: Engine,
}

impl Device {
    /// A device with `options`, of its own driver.
    ///
    /// Its oracle tells the threads of the host apart: what one has waited for another has not, unless memory was handed
    /// over. Whoever drives the [`engine`](Device::engine) by hand besides, from several threads, tells it what the host
    /// touches ([`Engine::host_touches`]).
    #[inline]
    #[must_use]
    pub fn new(options: Options) -> Self {
        Device { engine: Engine::new(Options { by_thread: true, ..options }) }
    }

    /// The driver behind the device: to inject failures, and to count and log calls.
    #[inline]
    #[must_use]
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Opens a stream with the default options, runs `f` with it, waits for it and destroys it, also if `f` panics.
    ///
    /// Nothing branded with `'s` can leave `f`; `env` admits borrowed data that outlives the stream.
    ///
    /// # Errors
    /// If the stream cannot be opened; or cannot be waited for at the end, in which case what it may still be using is
    /// leaked.
    ///
    /// # Aborts
    /// If host memory is on loan through `env` and the stream cannot be waited for (rule R12).
    #[inline]
    pub fn stream<'env, R>(
        &'env self,
        f: impl for<'s> FnOnce(Stream<Sim<'s>>, Env<'s, 'env, Sim<'s>>) -> R,
    ) -> Result<R> {
        self.stream_with(&StreamOptions::default(), f)
    }

    /// As [`stream`](Device::stream), with `options`.
    ///
    /// # Errors
    /// As for [`stream`](Device::stream).
    ///
    /// # Aborts
    /// As for [`stream`](Device::stream).
    #[inline]
    pub fn stream_with<'env, R>(
        &'env self,
        options: &StreamOptions,
        f: impl for<'s> FnOnce(Stream<Sim<'s>>, Env<'s, 'env, Sim<'s>>) -> R,
    ) -> Result<R> {
        let queue = SimQueue::open(self.engine.clone(), options)?;
        enter::<SimBackend, R>(queue, options, |core| f(Stream::new(core), Env::new(core)))
    }
}

impl Default for Device {
    /// A device with the default options, which are made to find mistakes: random delays, poisoned memory.
    #[inline]
    fn default() -> Self {
        Device::new(Options::default())
    }
}

impl<'s> Location for Sim<'s> {
    type DefaultAlloc = StreamAlloc<Sim<'s>>;
    const NAME: &'static str = "device";
    const IS_DEVICE: bool = true;
}
impl OnBackend for Sim<'_> {
    type Backend = SimBackend;
    type Pinned = Pinned<SimBackend>;
}
impl<'s> DeviceLocation for Sim<'s> {
    type Handle = &'s Core<SimBackend>;
}
impl sealed::Sealed for Sim<'_> {}
impl Sealed for SimBackend {}

// SAFETY:
// - A `SimQueue` is a stream of an engine, and every engine knows the page-locked memory of the process.
// - `mem_host_alloc` gives page-aligned memory that is in no other range of the table, until `mem_host_free`.
// - The pool is one static, of this type only.
// - The engine answers with codes, and unwinds nowhere.
unsafe impl Backend for SimBackend {
    type Queue = SimQueue;

    #[inline]
    fn pinned_pool() -> &'static PinnedPool<Self> {
        static POOL: PinnedPool<SimBackend> = PinnedPool::new();
        &POOL
    }

    #[inline]
    fn pin(bytes: NonZero<usize>) -> Result<NonNull<u8>, DriverError> {
        engine::pin(bytes.get())
    }

    #[inline]
    unsafe fn unpin(ptr: NonNull<u8>) -> Result<(), DriverError> {
        // SAFETY:
        // - The caller keeps the contract of `Backend::unpin`, which is that of `engine::unpin`.
        unsafe { engine::unpin(ptr) }
    }

    #[inline]
    unsafe fn host_touches(ptr: *const u8, bytes: usize, writes: bool, what: &'static str) {
        if engine::is_watching() {
            engine::host_touches(if writes { Use::write(ptr, bytes) } else { Use::read(ptr, bytes) }, what);
        }
    }
}

impl fmt::Debug for Sim<'_> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sim")
    }
}
