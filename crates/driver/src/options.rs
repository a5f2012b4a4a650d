//! The options of a stream that the backend takes when it opens one.

#![forbid(unsafe_code)]

/// Where the stream-ordered memory of a stream comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pool {
    /// The device's default pool, shared by the whole process.
    ///
    /// Its release threshold is that of the process, 0 by default. With 0, memory goes back to the
    /// device at every synchronise, which costs about 100 µs for each allocation on an H200.
    Default,
    /// A pool of the stream's own, which is destroyed with the stream.
    Own {
        /// The bytes that the pool may keep at a synchronise.
        release_threshold: u64,
    },
}

/// The options of a stream that the backend takes when it opens one. All fields are hints, which a
/// backend may ignore (V1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenOptions {
    /// Where stream-ordered memory comes from.
    pub pool: Pool,
    /// The priority. Lower numbers run first.
    pub priority: i32,
}

impl OpenOptions {
    /// Options with memory from `pool`, and `priority`.
    #[inline]
    #[must_use]
    pub const fn new(pool: Pool, priority: i32) -> Self {
        OpenOptions { pool, priority }
    }
}
