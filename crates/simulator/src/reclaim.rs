//! Freeing memory without a call: at once, or when events were passed.

#![forbid(unsafe_code)]

use tidelock_driver::code::Code;

use super::{orphans::Orphan, shared::Shared, slots::StreamId, sync::lock};

impl Shared {
    /// Frees what waits for events that were passed by now.
    pub(super) fn free_orphans(&self) {
        if self.orphans.are_there() && self.running().is_ok() {
            self.free_passed();
        }
    }

    #[cold]
    fn free_passed(&self) {
        self.orphans.free_passed(|Orphan { records, dropped_by, start }| {
            self.thread_joins(dropped_by.as_deref());
            records.iter().for_each(|record| self.thread_joins(record.release()));
            // An Err leaves the memory where it is.
            let _ = self.free_now(*start);
        });
    }

    /// Frees the allocation at `start` at once.
    pub(super) fn free_now(&self, start: usize) -> Result<(), Code> {
        let retired = lock(&self.heap).retire(start)?;
        if retired.hold.end(self.options.poison).is_err() {
            return self.refuse_free(&retired, Code::INVALID_VALUE);
        }
        self.freed(retired.start, retired.hold.block.capacity());
        // No stream has the default id: everybody may have the memory at once.
        self.with_heap(|heap| heap.cache(retired, StreamId::default()));
        Ok(())
    }
}
