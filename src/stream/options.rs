//! What can be chosen about a stream when it is opened.

#![forbid(unsafe_code)]

use tidelock_driver::{OpenOptions, Pool};

/// What can be chosen about a stream when it is opened.
///
/// The defaults are an own pool that gives nothing back before [`trim`](crate::Stream::trim), a
/// staging ring of 1 MiB, a at most 256 deferred frees that hold 64 MiB, the default priority,
/// allocations that do not wait, and nothing warmed up.
///
/// ```
/// use tidelock::{driver::Pool, sim, stream::StreamOptions};
///
/// let options = StreamOptions::default().pool(Pool::Default).ring_bytes(1 << 16);
/// let n = sim::Device::default().stream_with(&options, |stream, _env| stream.ctx().device_ordinal())?;
/// assert_eq!(n, 0);
/// # Ok::<(), tidelock::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamOptions {
    /// Where stream-ordered memory comes from.
    pub pool: Pool,
    /// The priority, lower numbers first; the device clamps it to what it has. Default 0.
    pub priority: i32,
    /// Bytes of the pinned ring that [`upload`](crate::Ctx::upload) copies slices through, of any
    /// size. It is allocated at the first use, rounded up to four segments of 256 bytes at least.
    pub ring_bytes: usize,
    /// Deferred frees the stream holds: one more asks whether the stream is idle, and waits for it
    /// if it is not.
    pub max_deferred_frees: usize,
    /// Bytes of pinned memory that deferred frees may hold, besides one piece that is larger by
    /// itself; more asks and waits as for
    /// [`max_deferred_frees`](StreamOptions::max_deferred_frees). Device memory is not counted: a
    /// request that needs it finds it.
    pub max_deferred_bytes: usize,
    /// Whether a request for memory that cannot be met otherwise waits for the stream, which may
    /// set memory free.
    ///
    /// Off by default: an allocation that holds the thread until the device has finished is a
    /// surprise, and in a pipelined engine it hides that memory is short. The error says how much a
    /// wait would set free at most.
    pub wait_for_memory: bool,
    /// Whether the stream has everything when it opens that it would otherwise get at the first
    /// use: the staging ring, twice as many events, and on CUDA the copy kernels with their pinned
    /// rings and tables.
    ///
    /// For an engine that must not lock memory or load code while it runs, because the driver may
    /// wait for the device then: kernels that wait for those of another device may never end. What
    /// the engine locks itself is locked ahead with
    /// [`PinnedPool::reserve`](crate::alloc::PinnedPool::reserve).
    pub warm: bool,
}

impl Default for StreamOptions {
    #[inline]
    fn default() -> Self {
        StreamOptions {
            pool: Pool::Own { release_threshold: u64::MAX },
            priority: 0,
            ring_bytes: 1 << 20,
            max_deferred_frees: 256,
            max_deferred_bytes: 64 << 20,
            wait_for_memory: false,
            warm: false,
        }
    }
}

impl StreamOptions {
    /// Takes stream-ordered memory from `pool`.
    #[inline]
    #[must_use]
    pub const fn pool(mut self, pool: Pool) -> Self {
        self.pool = pool;
        self
    }

    /// Opens the stream with `priority`, lower numbers first.
    #[inline]
    #[must_use]
    pub const fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Sizes the staging ring, in bytes.
    #[inline]
    #[must_use]
    pub const fn ring_bytes(mut self, bytes: usize) -> Self {
        self.ring_bytes = bytes;
        self
    }

    /// Limits the deferred frees, in number.
    #[inline]
    #[must_use]
    pub const fn max_deferred_frees(mut self, frees: usize) -> Self {
        self.max_deferred_frees = frees;
        self
    }

    /// Limits the deferred frees, in bytes of pinned memory.
    #[inline]
    #[must_use]
    pub const fn max_deferred_bytes(mut self, bytes: usize) -> Self {
        self.max_deferred_bytes = bytes;
        self
    }

    /// Lets a request for memory wait for the stream before it is refused.
    #[inline]
    #[must_use]
    pub const fn wait_for_memory(mut self, waits: bool) -> Self {
        self.wait_for_memory = waits;
        self
    }

    /// Opens the stream with everything that it would otherwise get at the first use.
    #[inline]
    #[must_use]
    pub const fn warm(mut self, warm: bool) -> Self {
        self.warm = warm;
        self
    }

    /// What the driver is asked for.
    pub(crate) const fn open(&self) -> OpenOptions {
        OpenOptions::new(self.pool, self.priority)
    }
}
