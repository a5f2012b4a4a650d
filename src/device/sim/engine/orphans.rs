//! Memory that is given back inside a kernel, where no call is permitted and nobody may wait.
//!
//! It is freed by the thread that drops it, or by that of the stream which passes its event, whichever comes later. Whoever
//! waits for the stream finds it freed.

use core::{
    ptr::NonNull,
    sync::atomic::{AtomicBool, Ordering},
};

use super::{
    Shared,
    calls_stream::Recorded,
    driver::{Engine, is_inside_a_kernel},
    lock,
    slots::{EventId, StreamId},
};
use crate::sync::Mutex;

/// What waits for its events.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    list: Mutex<Vec<Orphan>>,
    /// Mirrors whether the list has entries. Written under its lock.
    ///
    /// A stream passes an event and then reads this, who adds an entry writes this and then looks whether the event was
    /// passed, all sequentially consistent: at least one of the two sees the other.
    any: AtomicBool,
}

/// Memory to be freed, and an event to be destroyed, when the event was passed.
#[derive(Debug)]
struct Orphan {
    event: EventId,
    recorded: Option<Recorded>,
    /// Where the allocation begins, if there is one.
    start: Option<usize>,
}

impl Engine {
    /// Takes over memory and its event if the calling thread runs a kernel, of this engine or another; answers whether it
    /// did. The memory is freed, and the event destroyed, when the event was passed: no call of the driver. Of a doomed
    /// device the memory stays, of a broken one both.
    ///
    /// # Safety
    /// - `memory` comes from this engine and was not freed before; nobody uses it or `event` any more.
    /// - All work on the memory lies before the latest record of `event`, or the device is doomed.
    pub(in crate::device::sim) unsafe fn free_behind(&self, event: EventId, memory: Option<NonNull<u8>>) -> bool {
        if !is_inside_a_kernel() {
            return false;
        }
        let shared = self.shared();
        // Err: there is no such event, and nothing to wait for.
        let recorded = shared.recorded(event).ok().flatten();
        {
            let mut list = lock(&shared.orphans.list);
            list.push(Orphan { event, recorded, start: memory.map(|memory| memory.addr().get()) });
            shared.orphans.any.store(true, Ordering::SeqCst);
        }
        shared.free_orphans();
        true
    }
}

impl Shared {
    /// Frees what waits for events that were passed by now.
    pub(super) fn free_orphans(&self) {
        if self.orphans.any.load(Ordering::SeqCst) && self.running().is_ok() {
            self.free_passed();
        }
    }

    /// The list stays locked meanwhile, so that whoever finds it empty finds the memory freed.
    #[cold]
    fn free_passed(&self) {
        let mut list = lock(&self.orphans.list);
        list.retain(|Orphan { event, recorded, start }| {
            if recorded.as_ref().is_some_and(|recorded| !recorded.is_passed()) {
                return true;
            }
            self.host_learns(recorded.as_ref().and_then(Recorded::knowledge));
            if let Some(start) = start.filter(|_| !self.is_doomed()) {
                // An Err leaves the memory where it is.
                let _ = self.free_now(start);
            }
            lock(&self.events).remove(event.0);
            false
        });
        self.orphans.any.store(!list.is_empty(), Ordering::SeqCst);
    }

    /// Frees the allocation at `start` at once.
    pub(super) fn free_now(&self, start: usize) -> Result<(), crate::driver::Code> {
        let retired = lock(&self.heap).retire(start)?;
        if retired.hold.end(self.options.poison).is_err() {
            return self.refuse_free(&retired, crate::driver::Code::INVALID_VALUE);
        }
        self.freed(retired.start, retired.hold.block.capacity());
        // No stream has the default id: everybody may have the memory at once.
        self.with_heap(|heap| heap.cache(retired, StreamId::default()));
        Ok(())
    }
}

#[cfg(test)]
impl Orphans {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        lock(&self.list).len()
    }
}
