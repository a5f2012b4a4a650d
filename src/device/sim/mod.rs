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

mod device;
pub mod engine;
mod options;
mod row_gather;
mod stream;

pub use self::{
    engine::{Call, Counts, Engine, Fault, Report, Sabotage, Traffic, Use, pinned_counts, with_pinned_faults},
    options::{Delay, Options},
    stream::SimStream,
};
use crate::{
    error::Result,
    stream::{Env, On, Stream, StreamOptions},
};

/// The memory of one simulated stream, branded with `'s`.
pub type Sim<'s> = On<'s, SimBackend>;

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
        crate::Device::stream_with(self, options, f)
    }
}

impl Default for Device {
    /// A device with the default options, which are made to find mistakes: random delays, poisoned memory.
    #[inline]
    fn default() -> Self {
        Device::new(Options::default())
    }
}

/// What is true of every stream, for this backend.
mod checks {
    use super::{Device, Sim, SimBackend};
    use crate::{
        Buffer, Ctx, Stream, Synced, View, ViewMut,
        location::Pinned,
        stream::{Detached, Env, Frozen, HostScope, Staged},
    };

    static_assertions::assert_impl_all!(Device: Send, Sync, Clone);
    static_assertions::assert_eq_size!(Ctx<'static, Sim<'static>>, usize);
    static_assertions::assert_eq_size!(Stream<Sim<'static>>, usize);
    static_assertions::assert_eq_size!(Synced<'static, Sim<'static>>, ());
    static_assertions::assert_eq_size!(Buffer<u32, Sim<'static>>, [usize; 3]);
    static_assertions::assert_eq_size!(Buffer<u32, Staged<Sim<'static>>>, [usize; 3]);
    static_assertions::assert_eq_size!(Buffer<u32, Pinned<SimBackend>>, [usize; 2]);
    static_assertions::assert_eq_size!(View<'static, u32, Sim<'static>>, [usize; 2]);
    static_assertions::assert_eq_size!(ViewMut<'static, u32, Sim<'static>>, [usize; 2]);
    static_assertions::assert_impl_all!(Ctx<'static, Sim<'static>>: Copy);
    static_assertions::assert_not_impl_any!(Ctx<'static, Sim<'static>>: Send, Sync);
    static_assertions::assert_not_impl_any!(Stream<Sim<'static>>: Send, Sync, Clone);
    static_assertions::assert_not_impl_any!(Synced<'static, Sim<'static>>: Send, Sync, Clone);
    static_assertions::assert_not_impl_any!(Buffer<u32, Sim<'static>>: Send, Sync, Clone, core::ops::Deref);
    static_assertions::assert_not_impl_any!(Buffer<u32, Staged<Sim<'static>>>: Send, Sync, Clone, core::ops::Deref);
    static_assertions::assert_not_impl_any!(Env<'static, 'static, Sim<'static>>: Send, Sync);
    static_assertions::assert_not_impl_any!(HostScope<'static, 'static, Sim<'static>>: Send, Sync);
    static_assertions::assert_impl_all!(Detached<u32, SimBackend>: Send, Sync);
    static_assertions::assert_impl_all!(Frozen<u32, SimBackend>: Send, Sync);
    static_assertions::assert_not_impl_any!(Detached<u32, SimBackend>: Clone);
}
