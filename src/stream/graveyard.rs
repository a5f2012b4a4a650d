//! Frees that wait until the stream is seen to have passed the last use.

use core::{alloc::Layout, ptr::NonNull};
use std::collections::VecDeque;

use crate::device::{Backend, Queue, code::DriverError};

/// Memory that is given up, and how it is freed.
pub(crate) struct Grave {
    ptr: NonNull<u8>,
    layout: Layout,
    kind: Kind,
}

/// Where the memory of a grave came from: the free function follows from the allocator's type.
enum Kind {
    /// The backend's pinned pool.
    Pinned,
    /// The queue's synchronous allocator.
    Device,
}

impl Grave {
    pub(crate) fn pinned(ptr: NonNull<u8>, layout: Layout) -> Self {
        Grave { ptr, layout, kind: Kind::Pinned }
    }

    pub(crate) fn device(ptr: NonNull<u8>, layout: Layout) -> Self {
        Grave { ptr, layout, kind: Kind::Device }
    }

    /// `bytes` bytes of a queue that does not free in order.
    pub(crate) fn of_queue(ptr: NonNull<u8>, bytes: usize) -> Self {
        // The layout says how many bytes it is, and nothing else; no allocation has more than `isize::MAX`.
        let layout = Layout::from_size_align(bytes, 1).unwrap_or(Layout::new::<u8>());
        Grave { ptr, layout, kind: Kind::Device }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.layout.size()
    }

    fn is_pinned(&self) -> bool {
        matches!(self.kind, Kind::Pinned)
    }

    /// Frees the memory.
    ///
    /// # Safety
    /// - The memory came from the pinned pool of `B`, or from the synchronous allocator of a queue of this device or one that
    ///   does not free in order, with this layout, and was not given back before.
    /// - Neither the host nor the device uses it any more.
    pub(crate) unsafe fn free<B: Backend>(self, queue: &B::Queue) -> Result<(), DriverError> {
        match self.kind {
            Kind::Pinned => {
                // SAFETY:
                // - The caller keeps the contract of `PinnedPool::dealloc`.
                unsafe { B::pinned_pool().dealloc(self.ptr, self.layout) }
                Ok(())
            }
            Kind::Device => {
                // SAFETY:
                // - The caller keeps the contract of `Queue::free_sync`.
                unsafe { queue.free_sync(self.ptr) }
            }
        }
    }
}

/// A bounded queue of graves, oldest first.
pub(crate) struct Graveyard {
    graves: VecDeque<(Grave, u64)>,
    /// The most graves, and the most bytes of pinned memory in them.
    capacity: usize,
    pinned_capacity: usize,
    waiting: Waiting,
}

/// Bytes that wait in a graveyard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) pinned: usize,
    pub(crate) device: usize,
}

impl Waiting {
    fn change(&mut self, grave: &Grave, change: fn(usize, usize) -> usize) {
        let sum = if grave.is_pinned() { &mut self.pinned } else { &mut self.device };
        *sum = change(*sum, grave.bytes());
    }
}

impl Graveyard {
    pub(crate) fn new(capacity: usize, pinned_capacity: usize) -> Self {
        Graveyard { graves: VecDeque::new(), capacity, pinned_capacity, waiting: Waiting::default() }
    }

    /// Buries `grave`, which may be freed once the stream has passed `issued`; hands it back if there is no room.
    ///
    /// Pinned memory beyond the bytes that may wait is taken if no other waits: it is locked anyway.
    pub(crate) fn push(&mut self, grave: Grave, issued: u64) -> Result<(), Grave> {
        let mut waiting = self.waiting;
        waiting.change(&grave, usize::saturating_add);
        let is_over = grave.is_pinned() && self.waiting.pinned != 0 && waiting.pinned > self.pinned_capacity;
        if is_over || self.graves.len() >= self.capacity || self.graves.try_reserve(1).is_err() {
            return Err(grave);
        }
        self.waiting = waiting;
        self.graves.push_back((grave, issued));
        Ok(())
    }

    /// The oldest grave, if the stream has passed it.
    pub(crate) fn pop(&mut self, observed: u64) -> Option<Grave> {
        let (grave, _) = self.graves.pop_front_if(|(_, issued)| *issued <= observed)?;
        self.waiting.change(&grave, usize::saturating_sub);
        Some(grave)
    }

    /// What waits.
    pub(crate) fn waiting(&self) -> Waiting {
        self.waiting
    }
}
