//! What can be chosen about a stream when it is opened.

#![forbid(unsafe_code)]

/// Where the stream-ordered memory of a stream comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pool {
    /// The device's default pool, shared with everybody in the process.
    ///
    /// Its release threshold is whatever the process has set, 0 unless told otherwise: memory then goes back to the
    /// device at every synchronise, which costs about 100 µs an allocation on an H200.
    Default,
    /// A pool of the stream's own, destroyed with it.
    Own {
        /// Bytes the pool may keep at a synchronise instead of giving them back to the device.
        release_threshold: u64,
    },
}

/// What can be chosen about a stream when it is opened.
///
/// The defaults are an own pool that gives nothing back before [`trim`](crate::Stream::trim), a staging ring of 1 MiB, a
/// graveyard of 256 entries and the default priority.
///
/// ```
/// use tidelock::{Pool, StreamOptions, sim};
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
    /// Bytes of the pinned ring that [`upload`](crate::Ctx::upload) copies slices through. It is allocated at the first
    /// use, rounded up to four segments of 256 bytes at least.
    pub ring_bytes: usize,
    /// Deferred frees the stream holds before it waits for the oldest.
    pub graveyard: usize,
}

impl Default for StreamOptions {
    #[inline]
    fn default() -> Self {
        StreamOptions {
            pool: Pool::Own { release_threshold: u64::MAX },
            priority: 0,
            ring_bytes: 1 << 20,
            graveyard: 256,
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

    /// Sizes the graveyard, in deferred frees.
    #[inline]
    #[must_use]
    pub const fn graveyard(mut self, entries: usize) -> Self {
        self.graveyard = entries;
        self
    }
}
