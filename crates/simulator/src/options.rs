//! What a simulated device is made with.

#![forbid(unsafe_code)]

use core::time::Duration;

/// How long the operations of a simulated stream are delayed before they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delay {
    /// Not at all: an operation runs as soon as the thread of its stream gets to it.
    None,
    /// One operation in eight sleeps for a seeded random time of at most this long, the others
    /// yield the processor once.
    Upto(Duration),
}

/// The options of a simulated device, in builder style.
///
/// [`Options::default`] is made to find mistakes: short random delays, poisoned memory, and an race
/// detector that watches the order of all accesses. [`Options::quick`] is the same without delays
/// and race detector, for measuring and for long tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Options {
    pub(crate) seed: u64,
    pub(crate) delay: Delay,
    pub(crate) poison: Option<u8>,
    pub(crate) memory_limit: usize,
    pub(crate) ordinal: usize,
    pub(crate) race_detector: bool,
    /// Whether a wait counts for the thread that made it, and not for all: for devices to which the
    /// host's accesses are reported.
    pub(crate) by_thread: bool,
}

impl Options {
    /// The default options without delays and without the race detector.
    #[inline]
    #[must_use]
    pub const fn quick() -> Self {
        let (delay, memory_limit) = (Delay::None, 64 << 30);
        Options {
            seed: 0x7464_6c6b,
            delay,
            poison: Some(0xA5),
            memory_limit,
            ordinal: 0,
            race_detector: false,
            by_thread: false,
        }
    }

    /// Sets the seed of everything random: delays, and the order of the copies inside a batch.
    ///
    /// The same seed gives each stream the same choices; how the threads interleave stays the
    /// machine's affair.
    #[inline]
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets whether a wait counts for the thread that made it and for no other: for a device whose
    /// host program reports what it touches ([`host_touches`](super::host_touches)). Off by
    /// default; `tidelock::sim::Device` sets it.
    #[inline]
    #[must_use]
    pub const fn by_thread(mut self, on: bool) -> Self {
        self.by_thread = on;
        self
    }

    /// Sets how long operations are delayed; by default up to 100 microseconds.
    #[inline]
    #[must_use]
    pub const fn delay(mut self, delay: Delay) -> Self {
        self.delay = delay;
        self
    }

    /// Sets the byte that fresh, reused and freed memory is filled with, or `None` to leave it as
    /// it is; by default `0xA5`.
    ///
    /// The filling costs one pass over each allocation when it begins and one when it ends. Without
    /// it, fresh memory is zeroed once and reused memory keeps what it held.
    #[inline]
    #[must_use]
    pub const fn poison(mut self, poison: Option<u8>) -> Self {
        self.poison = poison;
        self
    }

    /// Sets the memory of the device in bytes, by default 64 GiB: live and cached memory together
    /// never exceed it.
    ///
    /// The device's memory is host memory, taken as it is allocated and not before.
    #[inline]
    #[must_use]
    pub const fn memory_limit(mut self, bytes: usize) -> Self {
        self.memory_limit = bytes;
        self
    }

    /// Sets the ordinal the device goes by in messages, by default 0.
    #[inline]
    #[must_use]
    pub const fn ordinal(mut self, ordinal: usize) -> Self {
        self.ordinal = ordinal;
        self
    }

    /// Sets whether the race detector watches: whether conflicting accesses that nothing orders are
    /// reported by [`Gpu::check`](super::Gpu::check), even if all goes well. On by default, off in
    /// [`quick`](Options::quick).
    ///
    /// The race detector of a `tidelock::sim::Device` tells the threads of the host apart: what one
    /// has waited for, another has not. That of an [`Gpu`](super::Gpu) made by hand counts them as
    /// one, because it does not see how memory is handed over.
    ///
    /// It costs about 0.1 µs an operation, 0.2 µs a copy of a batch, and heap allocations; one
    /// branch when it is off.
    #[inline]
    #[must_use]
    pub const fn race_detector(mut self, on: bool) -> Self {
        self.race_detector = on;
        self
    }
}

impl Default for Options {
    #[inline]
    fn default() -> Self {
        Options::quick().delay(Delay::Upto(Duration::from_micros(100))).race_detector(true)
    }
}
