//! What is asked of a stream when it is opened.

#![forbid(unsafe_code)]

/// Where the stream-ordered memory of a stream comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pool {
    /// The device's default pool, shared by the whole process.
    ///
    /// Its release threshold is whatever the process has set, 0 unless it sets another: memory then
    /// goes back to the device at every synchronise, which costs about 100 µs an allocation on an
    /// H200.
    Default,
    /// A pool of the stream's own, destroyed with it.
    Own {
        /// Bytes the pool may keep at a synchronise instead of giving them back to the device.
        release_threshold: u64,
    },
}

/// What is asked of a stream when it is opened. All of it is a wish: a backend may leave it alone
/// (V1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenOptions {
    /// Where stream-ordered memory comes from.
    pub pool: Pool,
    /// The priority, lower numbers first.
    pub priority: i32,
}

impl OpenOptions {
    /// A stream with memory from `pool`, and `priority`.
    #[inline]
    #[must_use]
    pub const fn new(pool: Pool, priority: i32) -> Self {
        OpenOptions { pool, priority }
    }
}
