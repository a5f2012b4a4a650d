//! A real device without hardware: opaque addresses, a thread for each stream, and work that runs
//! later.
//!
//! `Sim` is not a mock that returns at once. Device addresses are never mapped, so that the host
//! cannot dereference them; operations run on the stream's own thread after a seeded delay; fresh
//! memory is poisoned; frees and reuse are stream-ordered; copies that a driver refuses are
//! refused. Users test their engines with it, and so does this crate.
//!
//! A program opens a [`Device`]. Behind it stands a [`Gpu`]: a driver with handles, calls and codes
//! like CUDA's, which fails chosen calls ([`Gpu::fail`]) and logs all of them ([`Gpu::log`]).
//! Page-locked memory belongs to the process: [`pinned_counts`] counts the calls that lock it, and
//! [`with_pinned_faults`] makes them fail.
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
//!
//! A page-lock that fails, on the calling thread only:
//!
//! ```
//! use tidelock::{
//!     Buffer,
//!     driver::Code,
//!     location::Pinned,
//!     sim::{self, Call, Fault, SimBackend},
//! };
//!
//! let fault = Fault { nth: 1, onwards: true, call: None, code: Code::OUT_OF_MEMORY };
//! // Larger than anything that the pool may have kept.
//! let large = || Buffer::<u8, Pinned<SimBackend>>::zeros(64 << 20);
//! let (refused, calls) = sim::with_pinned_faults(Some(fault), large);
//! assert!(refused.is_err());
//! assert_eq!(calls, [Call::MemHostAlloc]);
//! assert!(large().is_ok());
//! ```

mod device;
mod row_gather;
mod stream;

#[doc(inline)]
pub use tidelock_simulator::{
    Call, Counts, Delay, Fault, Gpu, Options, Report, Sabotage, Traffic, Use, pinned_counts, with_pinned_faults,
};

/// The handles, tasks and memory of a program that calls the simulated driver itself, through
/// [`Gpu`].
pub mod gpu {
    #[doc(inline)]
    pub use tidelock_simulator::{EventId, Memory, PoolId, PoolUsage, StreamId, Task};
}

use std::sync::Arc;

use tidelock_driver::PoolList;
use tidelock_simulator::PoolId;

pub use self::stream::SimStream;
use crate::{
    error::Result,
    stream::{Env, Lane, On, Stream, StreamOptions},
};

/// The memory of one simulated stream, branded with `'s`.
pub type Sim<'s> = On<'s, SimBackend>;

/// The family of simulated devices: names their pinned memory,
/// [`Pinned<SimBackend>`](crate::location::Pinned).
#[derive(Clone, Copy, Debug)]
pub enum SimBackend {}

/// A simulated device.
#[derive(Clone, Debug)]
pub struct Device {
    gpu: Gpu,
    /// The pools that the open streams allocate from. Programs do not get their handles, with which
    /// they could destroy one.
    pools: Arc<PoolList<PoolId>>,
}

impl Device {
    /// A device with `options`, of its own driver.
    ///
    /// Its race detector keeps the host's threads apart: a wait counts for the thread that made it,
    /// and for others by way of the memory that was handed over. A program that also calls the
    /// [`gpu`](Device::gpu) by hand, from several threads, reports there what the host touches
    /// ([`Gpu::host_touches`]).
    #[inline]
    #[must_use]
    pub fn new(options: Options) -> Self {
        Device { gpu: Gpu::new(options.by_thread(true)), pools: Arc::default() }
    }

    /// The driver behind the device: it injects failures, counts and logs calls, and reports races.
    #[inline]
    #[must_use]
    pub const fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The pools that the open streams of the device allocate from.
    #[inline]
    pub(in crate::device::sim) fn pools(&self) -> &PoolList<PoolId> {
        &self.pools
    }

    /// Opens a stream with the default options, runs `f` with it, waits for it and destroys it,
    /// also if `f` panics.
    ///
    /// Nothing branded with `'s` can leave `f`; `env` admits borrowed data that outlives the
    /// stream.
    ///
    /// # Errors
    /// If the stream cannot be opened; or cannot be waited for at the end, in which case what it
    /// may still be using is leaked.
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

    /// Opens a stream with the default options that lives in an object: see [`Lane`].
    ///
    /// # Errors
    /// If the stream cannot be opened.
    #[inline]
    pub fn lane(&self) -> Result<Lane<SimBackend>> {
        self.lane_with(&StreamOptions::default())
    }

    /// As [`lane`](Device::lane), with `options`.
    ///
    /// # Errors
    /// As for [`lane`](Device::lane).
    #[inline]
    pub fn lane_with(&self, options: &StreamOptions) -> Result<Lane<SimBackend>> {
        crate::Device::lane_with(self, options)
    }
}

impl Default for Device {
    /// A device with the default options, which are made to find mistakes: random delays, poisoned
    /// memory.
    #[inline]
    fn default() -> Self {
        Device::new(Options::default())
    }
}
