//! Host threads: their numbers and clocks.

#![forbid(unsafe_code)]

use core::{
    cell::Cell,
    sync::atomic::{AtomicU64, Ordering},
};

use super::clock::{Clock, Timeline};

/// A host thread that has made a call. Numbers are never used again; 0 is no thread.
pub(super) type ThreadId = u64;

/// All threads that make calls from destructors of thread-local values after their end was noted,
/// which happens once.
const ENDING: ThreadId = u64::MAX;

/// The clock of one host thread.
#[derive(Debug, Default)]
pub(super) struct Thread {
    pub(super) clock: Clock,
    /// How often the clock has grown.
    pub(super) version: u64,
    /// The epoch of the clock of all threads that was joined last.
    pub(super) epoch: u64,
}

thread_local! {
    /// Has nothing to drop, so that it is there for the destructors of other thread-local values.
    static ME: Cell<ThreadId> = const { Cell::new(0) };
    static FAREWELL: Farewell = const { Farewell };
}

/// The number of the calling thread.
pub(crate) fn current() -> ThreadId {
    static THREADS: AtomicU64 = AtomicU64::new(1);
    if FAREWELL.try_with(|_| ()).is_err() {
        return ENDING;
    }
    if ME.get() == 0 {
        ME.set(THREADS.fetch_add(1, Ordering::Relaxed));
    }
    ME.get()
}

/// Its drop is the end of the thread.
struct Farewell;

impl Drop for Farewell {
    fn drop(&mut self) {
        super::thread_ends(ME.get());
    }
}

impl Thread {
    /// Advances the entry of `timeline` to `tick`.
    pub(super) fn advance(&mut self, timeline: Timeline, tick: u64) {
        if self.clock.advance(timeline, tick) {
            self.version = self.version.wrapping_add(1);
        }
    }

    /// Joins `clock`.
    pub(super) fn join(&mut self, clock: &Clock) {
        if self.clock.join(clock) {
            self.version = self.version.wrapping_add(1);
        }
    }
}
