//! The memory behind [`Shared`](super::Shared).

use core::{alloc::Layout, any::Any, fmt, mem, ptr::NonNull};
use std::sync::Arc;

use tidelock_driver::{Backend, DeviceOf, EventOf, HostAccess, RawDevice};

use super::{
    kept_owner::KeptOwner,
    record::{Records, SharedRecord},
};
use crate::sync::{Mutex, lock};

/// Memory that several owners share. It is freed with the last of them.
pub struct SharedMemory<B: Backend> {
    /// Invariant: `bytes` bytes from `start` on come from `source`, and nothing else frees them.
    start: NonNull<u8>,
    bytes: usize,
    source: Source<B>,
    /// The records behind the last use of detached owners that were dropped, at most one for each
    /// stream. Those that are missing have been passed. `None` if an owner was leaked, so that the
    /// memory is never freed.
    records: Mutex<Option<Vec<Arc<SharedRecord<B>>>>>,
}

/// Where memory comes from, which says how it is freed.
pub enum Source<B: Backend> {
    /// `alloc` of a stream of this device.
    OfStream(DeviceOf<B>),
    /// The pinned pool, with this layout.
    OfPinned(Layout),
    /// Elsewhere. Dropping the owner frees it.
    OfOwner {
        /// The owner.
        owner: Box<dyn Any + Send + Sync>,
        /// Whether others may access it too, so that no owner of the library writes it.
        read_only: bool,
    },
    /// There are no bytes, or something else frees them.
    Nothing,
}

/// How many records memory keeps before it looks which of them have been passed.
const RECORDS: usize = 8;

impl<B: Backend> SharedMemory<B> {
    pub(super) fn new(start: NonNull<u8>, bytes: usize, source: Source<B>) -> Self {
        SharedMemory { start, bytes, source, records: Mutex::new(Some(Vec::new())) }
    }

    /// Whether a sole owner may write the memory.
    pub(super) fn is_writable(&self) -> bool {
        !matches!(self.source, Source::OfOwner { read_only: true, .. })
    }

    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// The bytes that are leaked if the memory is never freed.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes the memory from `self`, if it is the memory of a stream that starts at `ptr` and has
    /// `bytes` bytes, or if there are no bytes. From then on `self` frees nothing.
    pub(super) fn takes_whole(&mut self, ptr: NonNull<u8>, bytes: usize) -> bool {
        let is_whole = ptr == self.start && bytes == self.bytes;
        let takes = is_whole && matches!(self.source, Source::OfStream(_) | Source::Nothing);
        if takes {
            self.source = Source::Nothing;
        }
        takes
    }

    /// Informs a backend that checks order that the calling thread gives up an owner, whose uses it
    /// has seen passed.
    pub(super) fn is_given_up(&self) {
        if self.bytes != 0 {
            // SAFETY:
            // - P4: the calling thread has an owner of the memory, and has waited for its uses.
            unsafe { B::host_touches(HostAccess::read(self.start.as_ptr(), self.bytes, "giving up shared memory")) };
        }
    }

    /// Gives up an owner whose stream has passed its last use. If it is the last one and all others
    /// have been passed too, returns the memory of a stream, which the caller frees.
    pub(super) fn taken_by_last_owner(mut memory: Arc<Self>) -> Option<NonNull<u8>> {
        let sole = Arc::get_mut(&mut memory)?;
        let (start, bytes) = (sole.start, sole.bytes);
        (bytes != 0 && sole.is_settled(None) && sole.takes_whole(start, bytes)).then_some(start)
    }

    /// Leaks an owner, whose stream may be using the memory for ever.
    pub(super) fn leak(memory: Arc<Self>) {
        // The records are of no use any more, and their events are given back.
        drop(lock(&memory.records).take());
        mem::forget(memory);
    }

    /// Remembers the record behind the last use of an owner. Returns `false` if the host has no
    /// memory for it.
    pub(super) fn remember(&self, record: Arc<SharedRecord<B>>) -> bool {
        let mut records = lock(&self.records);
        let Some(records) = &mut *records else { return true };
        if let Some(known) = records.iter_mut().find(|known| known.is_of_stream_of(&record)) {
            if known.is_before(&record) {
                *known = record;
            }
            return true;
        }
        if records.len() >= RECORDS {
            self.forget_passed(records);
        }
        let has_room = records.try_reserve(1).is_ok();
        if has_room {
            records.push(record);
        }
        has_room
    }

    /// Removes the records that have been passed.
    fn forget_passed(&self, records: &mut Vec<Arc<SharedRecord<B>>>) {
        let before = records.len();
        records.retain(|record| !record.has_passed());
        if records.len() != before {
            self.is_given_up();
        }
    }

    /// Whether all dropped owners have been passed, or lie before what the stream of `seen` enqueues
    /// from now on.
    pub(super) fn is_settled(&mut self, seen: Option<&Records<B>>) -> bool {
        let mut records = lock(&self.records);
        let Some(records) = &mut *records else { return false };
        records.retain(|record| !seen.is_some_and(|seen| seen.is_behind(record)));
        if !records.is_empty() {
            self.forget_passed(records);
        }
        records.is_empty()
    }
}

impl<B: Backend> Source<B> {
    pub(super) fn owner<O: Send + Sync + 'static>(owner: O) -> Self {
        Source::OfOwner { owner: Box::new(owner), read_only: false }
    }

    /// The source of memory that others may access too.
    #[cfg(feature = "dlpack")]
    pub(super) fn read_only_owner<O: Send + Sync + 'static>(owner: O) -> Self {
        Source::OfOwner { owner: Box::new(owner), read_only: true }
    }

    /// The source of `bytes` bytes. An owner is kept even if there are none.
    pub(super) fn of_bytes(self, bytes: usize) -> Self {
        if bytes == 0 && !matches!(self, Source::OfOwner { .. }) { Source::Nothing } else { self }
    }
}

impl<B: Backend> Drop for SharedMemory<B> {
    #[inline]
    fn drop(&mut self) {
        let records = lock(&self.records).take().unwrap_or_default();
        match mem::replace(&mut self.source, Source::Nothing) {
            Source::OfStream(device) => {
                let events: Vec<EventOf<B>> = records.iter().map(|record| record.at().event()).collect();
                // SAFETY:
                // - The memory comes from `alloc` of a stream of the device, and is freed once: this
                //   is its last owner (D6).
                // - Every owner was given up when its stream had passed its last use, or left the
                //   record behind it. `records` keeps the events alive.
                if unsafe { device.free_behind(&events, self.start) }.is_err() {
                    // An error is ignored in drop: the memory is leaked (F2).
                    device.shared().count_leak(self.bytes);
                }
            }
            Source::OfPinned(layout) => {
                // SAFETY:
                // - The memory comes from the pool with this layout, and is freed once (P3).
                // - Every owner was given up when its stream had passed its last use. Pinned memory
                //   is never detached, so that there are no records.
                unsafe { B::PINNED.dealloc(self.start, layout) }
            }
            Source::OfOwner { owner, .. } => KeptOwner { owner, records, bytes: self.bytes }.drop_behind(),
            Source::Nothing => {}
        }
    }
}

// SAFETY:
// - The address by itself gives no access to memory, and everything else is `Send`. Any thread may
//   free the memory (D6, P3).
unsafe impl<B: Backend> Send for SharedMemory<B> {}
// SAFETY:
// - What changes behind a shared reference is behind a lock.
unsafe impl<B: Backend> Sync for SharedMemory<B> {}

impl<B: Backend> fmt::Debug for Source<B> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::OfStream(_) => "OfStream",
            Source::OfPinned(_) => "OfPinned",
            Source::OfOwner { .. } => "OfOwner",
            Source::Nothing => "Nothing",
        })
    }
}

impl<B: Backend> fmt::Debug for SharedMemory<B> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedMemory").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}
