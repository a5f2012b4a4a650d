//! Memory pools: what they hold, what they cache, and when they give it back.

#![forbid(unsafe_code)]

use super::{block::Hold, heap::Ground, slots::StreamId};

/// How much memory a pool has, in bytes, in whole granules of 512.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PoolUsage {
    /// Live and cached memory.
    pub reserved: usize,
    /// The most that was ever reserved.
    pub reserved_high: usize,
    /// Memory allocated and not freed, by the calls made so far.
    pub used: usize,
    /// The most that was ever used.
    pub used_high: usize,
}

#[derive(Debug)]
pub(super) struct Pool {
    pub(super) threshold: u64,
    pub(super) usage: PoolUsage,
    /// A destroyed pool allocates no more and lives until all of its memory has been freed.
    pub(super) destroyed: bool,
    /// Freed blocks, the one freed last at the end.
    cached: Vec<Cached>,
}

/// A block whose free has been enqueued on `stream`, and perhaps executed.
#[derive(Debug)]
pub(super) struct Cached {
    pub(super) hold: Hold,
    pub(super) capacity: usize,
    pub(super) stream: StreamId,
}

impl Pool {
    pub(super) fn new(threshold: u64) -> Self {
        Pool { threshold, usage: PoolUsage::default(), destroyed: false, cached: Vec::with_capacity(64) }
    }

    /// Takes the best cached block for an allocation in the order of `stream`.
    ///
    /// That is the smallest of at most twice the size, and of those the one freed last. The stream
    /// that freed a block may have it back at once, another stream only when the free has been
    /// executed, or `anyway`.
    pub(super) fn take(&mut self, capacity: usize, stream: StreamId, anyway: bool) -> Option<Cached> {
        let fits = capacity..=capacity.saturating_mul(2);
        let usable = |cached: &Cached| {
            let is_free = || anyway || cached.stream == stream || cached.hold.is_over();
            fits.contains(&cached.capacity) && is_free()
        };
        let candidates = self.cached.iter().enumerate().rev().filter(|(_, cached)| usable(cached));
        let (index, _) = candidates.min_by_key(|(_, cached)| cached.capacity)?;
        let cached = self.cached.remove(index);
        self.use_more(cached.capacity);
        Some(cached)
    }

    pub(super) fn cache(&mut self, cached: Cached) {
        self.cached.push(cached);
    }

    /// Gives cached blocks whose free has been executed back, oldest first, until `enough` says so
    /// of the bytes that the pool and all pools reserve.
    pub(super) fn release(&mut self, ground: &mut Ground, enough: impl Fn(usize, usize) -> bool) {
        let mut index = 0;
        while !enough(self.usage.reserved, ground.reserved) {
            let Some(cached) = self.cached.get(index) else { break };
            if !cached.hold.is_over() {
                index = index.saturating_add(1);
                continue;
            }
            let Cached { hold, capacity, .. } = self.cached.remove(index);
            self.usage.reserved = self.usage.reserved.saturating_sub(capacity);
            ground.reserved = ground.reserved.saturating_sub(capacity);
            ground.table.remove(hold.block.start());
            ground.dead.push(hold.block);
        }
    }

    /// A new block was made for the pool and is in use.
    pub(super) fn grew(&mut self, capacity: usize) {
        self.usage.reserved = self.usage.reserved.saturating_add(capacity);
        self.usage.reserved_high = self.usage.reserved_high.max(self.usage.reserved);
        self.use_more(capacity);
    }

    pub(super) fn retired(&mut self, capacity: usize) {
        self.usage.used = self.usage.used.saturating_sub(capacity);
    }

    pub(super) fn revived(&mut self, capacity: usize) {
        self.use_more(capacity);
    }

    fn use_more(&mut self, capacity: usize) {
        self.usage.used = self.usage.used.saturating_add(capacity);
        self.usage.used_high = self.usage.used_high.max(self.usage.used);
    }
}
