//! The memory behind an allocation: one heap block of its own each, and what stream order says
//! about it.

use core::{
    alloc::Layout,
    ptr::{self, NonNull},
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};
use std::{alloc, sync::Arc};

use super::failure::Failure;
use tidelock_driver::code::Code;

/// The addresses of device memory and of what stands behind it are congruent modulo this many
/// bytes.
pub(super) const PLACED: usize = 512;

/// A block of device or pinned memory. It lives as long as anybody holds it, whatever stream order
/// says.
///
/// A block serves one allocation after the other. `state` is `2g + 1` while allocation number `g`
/// is live in stream order and `2g + 2` once its free has been executed; allocation 0 is a fiction
/// that was freed before the first. State changes release and checks acquire, so a thread that
/// finds an allocation live also sees its initial contents.
#[derive(Debug)]
pub(super) struct Block {
    start: usize,
    backing: Backing,
    state: AtomicU64,
    /// The size of the allocation that is live, never more than the backing's.
    bytes: AtomicUsize,
}

/// One allocation of one block: keeps the memory alive, and tells whether the allocation is live in
/// stream order.
#[derive(Clone, Debug)]
pub(super) struct Hold {
    pub(super) block: Arc<Block>,
    pub(super) generation: u64,
}

/// What a block is filled with when an allocation begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fresh {
    /// With the pattern, over the bytes of the allocation.
    Poison(u8),
    /// With zeros, over the whole block: nothing ever reads uninitialised host memory.
    Zero,
    /// With nothing: what was there stays.
    Kept,
}

impl Block {
    /// A block of `capacity` bytes whose device address is `start`; `None` if the host has no
    /// memory left.
    pub(super) fn device(start: usize, capacity: usize) -> Option<Arc<Block>> {
        let backing = Backing::new(capacity, PLACED)?;
        Some(Arc::new(Block { start, backing, state: AtomicU64::new(2), bytes: AtomicUsize::new(0) }))
    }

    /// A block of `bytes` bytes of page-aligned host memory that goes by its own address.
    pub(super) fn host(bytes: usize) -> Option<Arc<Block>> {
        let backing = Backing::new(bytes, 4096)?;
        let start = backing.base.addr().get();
        Some(Arc::new(Block { start, backing, state: AtomicU64::new(2), bytes: AtomicUsize::new(0) }))
    }

    pub(super) fn start(&self) -> usize {
        self.start
    }

    /// How many bytes there are.
    pub(super) fn capacity(&self) -> usize {
        self.backing.layout.size()
    }

    /// The memory itself.
    pub(super) fn base(&self) -> NonNull<u8> {
        self.backing.base
    }

    /// Where `address`, one of this block's addresses, really is.
    pub(super) fn at(&self, address: usize) -> Raw {
        Raw(self.backing.base.as_ptr().wrapping_add(address.wrapping_sub(self.start)))
    }

    /// Where the `bytes` from `address` on really are, if all of them are in the allocation that is
    /// live.
    pub(super) fn live_at(&self, address: usize, bytes: usize) -> Option<Raw> {
        let live = self.state.load(Ordering::Acquire) & 1 == 1;
        let end = address.checked_sub(self.start)?.checked_add(bytes)?;
        (live && end <= self.bytes.load(Ordering::Relaxed)).then(|| self.at(address))
    }
}

impl Hold {
    /// Whether the allocation is live in stream order.
    pub(super) fn is_live(&self) -> bool {
        self.block.state.load(Ordering::Acquire) == live(self.generation)
    }

    /// Whether the free of the allocation has been executed.
    pub(super) fn is_over(&self) -> bool {
        self.block.state.load(Ordering::Acquire) == over(self.generation)
    }

    /// The same block, one allocation later.
    pub(super) fn next(&self) -> Hold {
        Hold { block: Arc::clone(&self.block), generation: self.generation.wrapping_add(1) }
    }

    /// The allocation begins: its memory is filled, then it is live.
    pub(super) fn begin(&self, bytes: usize, fresh: Fresh) -> Result<(), Failure> {
        let before = over(self.generation.wrapping_sub(1));
        if self.block.state.load(Ordering::Acquire) != before || bytes > self.block.backing.layout.size() {
            return Err(self.failure("the allocation begins"));
        }
        match fresh {
            Fresh::Poison(pattern) => self.block.backing.fill(pattern, bytes),
            Fresh::Zero => self.block.backing.fill(0, usize::MAX),
            Fresh::Kept => {}
        }
        self.block.bytes.store(bytes, Ordering::Relaxed);
        self.block.state.store(live(self.generation), Ordering::Release);
        Ok(())
    }

    /// The allocation ends: its memory is poisoned, then it is free.
    pub(super) fn end(&self, poison: Option<u8>) -> Result<(), Failure> {
        self.check("the free")?;
        if let Some(pattern) = poison {
            self.block.backing.fill(pattern, self.block.bytes.load(Ordering::Relaxed));
        }
        // Two frees of one allocation cannot both get here: the second is refused at the call.
        self.block.state.store(over(self.generation), Ordering::Release);
        Ok(())
    }

    /// Ok if the allocation is live; `what` uses it, for the message.
    pub(super) fn check(&self, what: &str) -> Result<(), Failure> {
        if self.is_live() { Ok(()) } else { Err(self.failure(what)) }
    }

    #[cold]
    fn failure(&self, what: &str) -> Failure {
        let state = self.block.state.load(Ordering::Acquire);
        let when = if state < live(self.generation) { "before its allocation ran" } else { "after its free ran" };
        let words = format!("{what} uses the memory at {:#x} {when}", self.block.start);
        Failure { code: Code::ILLEGAL_ADDRESS, words }
    }
}

const fn live(generation: u64) -> u64 {
    generation.wrapping_mul(2).wrapping_add(1)
}

const fn over(generation: u64) -> u64 {
    generation.wrapping_mul(2).wrapping_add(2)
}

/// Heap memory that is only ever reached through raw pointers.
///
/// Invariant: `base` came from the global allocator with `layout`, whose size is not 0, and is
/// given back once, by Drop.
#[derive(Debug)]
struct Backing {
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the block is plain memory with no tie to a thread; those who access it order themselves,
// by the promises made to the unsafe calls of the device.
unsafe impl Send for Backing {}
// SAFETY: as above; `base` and `layout` never change.
unsafe impl Sync for Backing {}

impl Backing {
    fn new(bytes: usize, align: usize) -> Option<Self> {
        let layout = Layout::from_size_align(bytes, align).ok().filter(|layout| layout.size() > 0)?;
        // SAFETY: the size of `layout` is not 0.
        let base = unsafe { alloc::alloc(layout) };
        Some(Backing { base: NonNull::new(base)?, layout })
    }

    /// Writes `value` into the first `bytes` bytes, or into all there are.
    fn fill(&self, value: u8, bytes: usize) {
        let bytes = bytes.min(self.layout.size());
        // SAFETY: `base` is valid for `layout.size()` bytes until Drop. No other access conflicts:
        // an allocation begins before the memory may be used, and ends when it is not used any
        // more, as the caller of the free promised.
        unsafe { ptr::write_bytes(self.base.as_ptr(), value, bytes) }
    }
}

impl Drop for Backing {
    fn drop(&mut self) {
        // SAFETY: by the invariant of the type.
        unsafe { alloc::dealloc(self.base.as_ptr(), self.layout) }
    }
}

/// A pointer that crosses to the thread of a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raw(pub(super) *mut u8);

// SAFETY: a pointer is a number; whoever dereferences one proves that it may, on the thread that
// does it.
unsafe impl Send for Raw {}
