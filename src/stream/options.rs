//! The options of a stream, which are chosen when it is opened.

#![forbid(unsafe_code)]

use tidelock_driver::{OpenOptions, Pool};

/// The options of a stream, which are chosen when it is opened.
///
/// The defaults are a pool of the stream's own that gives nothing back before
/// [`trim`](crate::Stream::trim), a staging ring of 1 MiB, at most 256 deferred frees with at most
/// 64 MiB of pinned memory, priority 0, allocations that do not wait, and a stream that is not
/// warm.
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
    /// The priority. Lower numbers run first. The device clamps it to its range. Default 0.
    pub priority: i32,
    /// The size, in bytes, of the pinned ring through which [`upload`](crate::Ctx::upload) copies
    /// slices of any size. The ring is allocated at the first use. It has four segments of at least
    /// 256 bytes each.
    pub ring_bytes: usize,
    /// The most deferred frees that the stream keeps. One more queries the stream, and waits for it
    /// if it is busy.
    pub max_deferred_frees: usize,
    /// The most bytes of pinned memory in deferred frees. A single piece may be larger. A free
    /// beyond the limit queries and waits as for
    /// [`max_deferred_frees`](StreamOptions::max_deferred_frees). Device memory is not counted,
    /// because a request that finds no memory carries out deferred frees first.
    pub max_deferred_bytes: usize,
    /// Whether a request for memory that would otherwise be refused waits for the stream first, so
    /// that deferred frees can be carried out.
    ///
    /// Off by default, because an allocation that blocks until the device has finished stalls a
    /// pipelined engine and hides that memory is short. The error says how many bytes a wait would
    /// free at most.
    pub wait_for_memory: bool,
    /// Whether the stream acquires, when it opens, what it otherwise acquires at the first use: the
    /// staging ring, eight more events, and on CUDA the copy kernels with their pinned rings and
    /// tables.
    ///
    /// For an engine that must not lock memory or load code while it runs. Both may make the driver
    /// wait for the device, and kernels that wait for kernels of another device may then never end.
    /// Pinned memory for the engine itself is locked ahead with
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

    /// Limits the number of deferred frees.
    #[inline]
    #[must_use]
    pub const fn max_deferred_frees(mut self, frees: usize) -> Self {
        self.max_deferred_frees = frees;
        self
    }

    /// Limits the bytes of pinned memory in deferred frees.
    #[inline]
    #[must_use]
    pub const fn max_deferred_bytes(mut self, bytes: usize) -> Self {
        self.max_deferred_bytes = bytes;
        self
    }

    /// Sets whether a request for memory waits for the stream before it is refused.
    #[inline]
    #[must_use]
    pub const fn wait_for_memory(mut self, waits: bool) -> Self {
        self.wait_for_memory = waits;
        self
    }

    /// Sets whether the stream acquires, when it opens, what it otherwise acquires at the first
    /// use.
    #[inline]
    #[must_use]
    pub const fn warm(mut self, warm: bool) -> Self {
        self.warm = warm;
        self
    }

    /// The part of the options that the backend takes.
    pub(crate) const fn open(&self) -> OpenOptions {
        OpenOptions::new(self.pool, self.priority)
    }
}
