//! Memory that belongs to no stream and is freed once its events have been passed.
//!
//! It is freed by the thread that drops it, or by that of the stream which passes the last event,
//! whichever comes later. Whoever waits for the stream finds it freed.

#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use super::{
    event::Recorded,
    race_detector::ReleaseClock,
    sync::{Mutex, lock},
};

/// What waits for its events.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    list: Mutex<Vec<Orphan>>,
    /// Mirrors whether the list has entries. Written under its lock.
    ///
    /// A stream passes an event and then reads this, who adds an entry writes this and then looks
    /// whether the event was passed, all sequentially consistent: at least one of the two sees the
    /// other.
    any: AtomicBool,
}

/// Memory to be freed when the events have been passed.
#[derive(Debug)]
pub(super) struct Orphan {
    pub(super) records: Vec<Recorded>,
    /// What the thread that dropped it has waited for. Another thread may free it.
    pub(super) dropped_by: Option<Arc<ReleaseClock>>,
    /// Where the allocation begins.
    pub(super) start: usize,
}

impl Orphans {
    /// Adds one, to be freed when its events were passed.
    pub(super) fn add(&self, orphan: Orphan) {
        let mut list = lock(&self.list);
        list.push(orphan);
        self.any.store(true, Ordering::SeqCst);
    }

    /// Whether there are any.
    pub(super) fn are_there(&self) -> bool {
        self.any.load(Ordering::SeqCst)
    }

    /// Calls `free` with each whose events were passed, and forgets it.
    ///
    /// The list stays locked meanwhile: a thread that finds it empty finds the memory freed.
    pub(super) fn free_passed(&self, mut free: impl FnMut(&Orphan)) {
        let mut list = lock(&self.list);
        list.retain(|orphan| {
            let is_passed = orphan.records.iter().all(Recorded::is_passed);
            if is_passed {
                free(orphan);
            }
            !is_passed
        });
        self.any.store(!list.is_empty(), Ordering::SeqCst);
    }
}

#[cfg(test)]
impl Orphans {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        lock(&self.list).len()
    }
}
