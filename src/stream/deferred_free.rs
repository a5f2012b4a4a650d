//! Deferred frees: memory that is freed once the stream is seen to have passed the last use.

use core::{alloc::Layout, mem::ManuallyDrop, ptr::NonNull};
use std::{collections::VecDeque, sync::Arc};

use tidelock_driver::{Backend, DriverError, RawStream, StreamOf};

use super::shared_memory::SharedMemory;

/// Memory whose owner was dropped, and how it is freed.
pub(crate) struct DeferredFree<B: Backend> {
    ptr: NonNull<u8>,
    layout: Layout,
    kind: Kind<B>,
}

// SAFETY:
// - The memory has no owner but this, and no thread uses it. Pinned memory belongs to every thread
//   of the host (P1), and memory of a device is freed by a call that any thread makes (S1).
// - An owner of shared memory is `Send` itself.
unsafe impl<B: Backend> Send for DeferredFree<B> where Arc<SharedMemory<B>>: Send {}

/// Where the memory comes from, which says how it is freed.
enum Kind<B: Backend> {
    /// The backend's pinned pool.
    Pinned,
    /// The raw stream. It is freed with `RawStream::free_now`.
    Device,
    /// One owner of several. It is given up.
    Shared(ManuallyDrop<Arc<SharedMemory<B>>>),
}

impl<B: Backend> DeferredFree<B> {
    pub(crate) fn pinned(ptr: NonNull<u8>, layout: Layout) -> Self {
        DeferredFree { ptr, layout, kind: Kind::Pinned }
    }

    pub(crate) fn device(ptr: NonNull<u8>, layout: Layout) -> Self {
        DeferredFree { ptr, layout, kind: Kind::Device }
    }

    /// `bytes` bytes from `alloc` of a stream that does not free in order (M8).
    pub(crate) fn of_stream(ptr: NonNull<u8>, bytes: usize) -> Self {
        // Only the size of the layout is used. No allocation has more than `isize::MAX` bytes.
        let layout = Layout::from_size_align(bytes, 1).unwrap_or(Layout::new::<u8>());
        DeferredFree { ptr, layout, kind: Kind::Device }
    }

    /// One owner of `memory`.
    pub(super) fn shared(memory: Arc<SharedMemory<B>>) -> Self {
        let kind = Kind::Shared(ManuallyDrop::new(memory));
        DeferredFree { ptr: NonNull::dangling(), layout: Layout::new::<()>(), kind }
    }

    /// The bytes that are leaked if the memory is never freed.
    pub(crate) fn bytes(&self) -> usize {
        match &self.kind {
            Kind::Shared(memory) => memory.bytes(),
            Kind::Pinned | Kind::Device => self.layout.size(),
        }
    }

    /// Leaks the memory, and returns its bytes.
    pub(super) fn leak(self) -> usize {
        let bytes = self.bytes();
        if let Kind::Shared(memory) = self.kind {
            SharedMemory::leak(ManuallyDrop::into_inner(memory));
        }
        bytes
    }

    fn is_owner_of(&self, of: &Arc<SharedMemory<B>>) -> bool {
        matches!(&self.kind, Kind::Shared(memory) if Arc::ptr_eq(memory, of))
    }

    /// Gives up an owner at once, because another owner on the stream continues its use.
    pub(super) fn join(self) {
        if let Kind::Shared(memory) = self.kind {
            drop(ManuallyDrop::into_inner(memory));
        }
    }

    fn is_pinned(&self) -> bool {
        matches!(self.kind, Kind::Pinned)
    }

    /// Frees the memory.
    ///
    /// # Safety
    /// - The memory comes from the pinned pool of `B`, from `alloc_now` of a stream of this device,
    ///   or from `alloc` of one that does not free in order, with this layout. It was not freed
    ///   before.
    /// - Neither the host nor the device uses it any more.
    pub(crate) unsafe fn free_now(self, raw: &StreamOf<B>) -> Result<(), DriverError> {
        match self.kind {
            Kind::Pinned => {
                // SAFETY:
                // - The caller keeps the contract of `PinnedPool::dealloc`.
                unsafe { B::PINNED.dealloc(self.ptr, self.layout) }
                Ok(())
            }
            Kind::Device => {
                // SAFETY:
                // - The caller keeps the contract of `RawStream::free_now` (M7, M8).
                unsafe { raw.free_now(self.ptr) }
            }
            Kind::Shared(memory) => {
                memory.is_given_up();
                match SharedMemory::taken_by_last_owner(ManuallyDrop::into_inner(memory)) {
                    Some(ptr) if raw.frees_in_order() => {
                        // SAFETY:
                        // - The memory comes from `alloc` of a stream of this device, and was taken
                        //   from its last owner. All work on it has been passed (M5).
                        unsafe { raw.free(ptr) }
                    }
                    Some(ptr) => {
                        // SAFETY:
                        // - As above (M8).
                        unsafe { raw.free_now(ptr) }
                    }
                    None => Ok(()),
                }
            }
        }
    }
}

/// A bounded list of deferred frees, oldest first.
pub(crate) struct DeferredFrees<B: Backend> {
    frees: VecDeque<(DeferredFree<B>, u64)>,
    /// The limits: the number of frees, and the bytes of pinned memory in them.
    capacity: usize,
    pinned_capacity: usize,
    waiting: Waiting,
}

/// The bytes of deferred frees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) pinned: usize,
    pub(crate) device: usize,
}

impl Waiting {
    /// Memory with several owners is not counted, because the others may keep it.
    fn change<B: Backend>(&mut self, free: &DeferredFree<B>, change: fn(usize, usize) -> usize) {
        let sum = if free.is_pinned() { &mut self.pinned } else { &mut self.device };
        *sum = change(*sum, free.layout.size());
    }
}

impl<B: Backend> DeferredFrees<B> {
    pub(crate) fn new(capacity: usize, pinned_capacity: usize) -> Self {
        DeferredFrees { frees: VecDeque::new(), capacity, pinned_capacity, waiting: Waiting::default() }
    }

    /// Defers `free` until the stream has passed submission `submitted`. Returns it if there is no
    /// room.
    ///
    /// Owners of shared memory do not count against the limits: there is one for each memory, which
    /// other owners may keep in any case.
    ///
    /// If no other pinned memory is in the list, a piece larger than the limit is accepted: it
    /// stays locked in any case.
    pub(crate) fn push(&mut self, free: DeferredFree<B>, submitted: u64) -> Result<(), DeferredFree<B>> {
        if let Kind::Shared(memory) = &free.kind {
            // One owner for each memory is enough, behind the latest use.
            if let Some(earlier) = self.take_shared(memory) {
                earlier.join();
            }
        }
        let mut waiting = self.waiting;
        waiting.change(&free, usize::saturating_add);
        let is_over = free.is_pinned() && self.waiting.pinned != 0 && waiting.pinned > self.pinned_capacity;
        let is_full = self.frees.len() >= self.capacity && !matches!(free.kind, Kind::Shared(_));
        if is_over || is_full || self.frees.try_reserve(1).is_err() {
            return Err(free);
        }
        self.waiting = waiting;
        self.frees.push_back((free, submitted));
        Ok(())
    }

    /// Removes the oldest free, if the stream has passed it.
    pub(crate) fn pop(&mut self, completed: u64) -> Option<DeferredFree<B>> {
        let (free, _) = self.frees.pop_front_if(|(_, submitted)| *submitted <= completed)?;
        self.waiting.change(&free, usize::saturating_sub);
        Some(free)
    }

    /// Leaks all memory in the list.
    pub(super) fn leak(&mut self) {
        self.frees.drain(..).for_each(|(free, _)| {
            free.leak();
        });
    }

    /// Removes one free of an owner of `memory`, if there is one.
    pub(super) fn take_shared(&mut self, memory: &Arc<SharedMemory<B>>) -> Option<DeferredFree<B>> {
        let at = self.frees.iter().position(|(free, _)| free.is_owner_of(memory))?;
        let (free, _) = self.frees.remove(at)?;
        Some(free)
    }

    /// The bytes of the frees in the list.
    pub(crate) fn waiting(&self) -> Waiting {
        self.waiting
    }
}
