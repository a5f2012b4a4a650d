//! Host threads, as the oracle tells them apart.

#![forbid(unsafe_code)]

use core::{
    cell::Cell,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{clock::Clock, oracle};

/// A host thread that has made a call. Numbers are never used again; 0 is no thread.
pub(super) type ThreadId = u64;

/// All threads that make calls after they were said to have ended, from the destructors of thread-local values: nobody
/// would say so a second time.
const ENDING: ThreadId = u64::MAX;

/// What one host thread knows to be done.
#[derive(Debug, Default)]
pub(super) struct Thread {
    pub(super) clock: Clock,
    /// How often the thread learned something new.
    pub(super) version: u64,
    /// How much `clock` has heard of what every thread knows.
    pub(super) heard: u64,
}

thread_local! {
    /// Has nothing to drop, so that it is there for the destructors of other thread-local values.
    static ME: Cell<ThreadId> = const { Cell::new(0) };
    static FAREWELL: Farewell = const { Farewell };
}

/// The number of the calling thread.
pub(super) fn current() -> ThreadId {
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
        oracle::thread_ends(ME.get());
    }
}

impl Thread {
    /// Learns all that `clock` knows.
    pub(super) fn learn(&mut self, clock: &Clock) {
        if self.clock.join(clock) {
            self.version = self.version.wrapping_add(1);
        }
    }
}
