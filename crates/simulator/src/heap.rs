//! Device addresses and who has them: allocations, and the pools they come from.

#![forbid(unsafe_code)]

use std::sync::Arc;

use super::{
    block::{Block, Fresh, Hold},
    pool::{Cached, Pool, PoolUsage},
    slots::{PoolId, Slots, StreamId},
    table::{Located, Range, Table},
    window::Window,
};
use tidelock_driver::code::Code;

/// Allocations begin at multiples of this many bytes, and take as many.
const GRANULE: usize = super::block::PLACED;

/// The device memory of one device.
#[derive(Debug)]
pub(super) struct Heap {
    ground: Ground,
    pools: Slots<Pool>,
    plain: PoolId,
    default: PoolId,
    reuses_unordered: bool,
}

/// What the pools share.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) table: Table<Allocation>,
    pub(super) reserved: usize,
    limit: usize,
    /// Blocks to drop once the heap is unlocked: giving memory back to the host takes long.
    pub(super) dead: Vec<Arc<Block>>,
    /// The device's addresses; `None` if there were none left for it.
    window: Option<Window>,
    cursor: usize,
}

/// The allocation that a range of device addresses serves, as the calls see it: streams run behind.
#[derive(Debug)]
pub(super) struct Allocation {
    pub(super) hold: Hold,
    live: bool,
    pool: PoolId,
}

/// What a call has allocated, to be begun in stream order.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) start: usize,
    pub(super) hold: Hold,
    pub(super) fresh: bool,
    /// Whether the memory was seen to be free; if not, stream order makes it so.
    pub(super) is_free: bool,
}

/// What a call is about to free: it can be neither freed a second time nor allocated yet.
#[derive(Debug)]
pub(super) struct Retired {
    pub(super) start: usize,
    pub(super) hold: Hold,
    capacity: usize,
    pool: PoolId,
}

impl Heap {
    pub(super) fn new(gpu: u64, limit: usize) -> Self {
        let window = Window::take();
        let cursor = window.as_ref().map_or(0, Window::base);
        let mut pools = Slots::new(gpu);
        // The first two ids of an empty table always exist.
        let plain = PoolId(pools.insert(Pool::new(0)).unwrap_or_default());
        let default = PoolId(pools.insert(Pool::new(0)).unwrap_or_default());
        let ground = Ground { table: Table::new(), reserved: 0, limit, dead: Vec::new(), window, cursor };
        Heap { ground, pools, plain, default, reuses_unordered: false }
    }

    /// From now on any stream reuses memory at once, which is wrong.
    pub(super) fn reuse_unordered(&mut self) {
        self.reuses_unordered = true;
    }

    /// The pool of the allocations that no pool was named for.
    pub(super) fn plain(&self) -> PoolId {
        self.plain
    }

    pub(super) fn default_pool(&self) -> PoolId {
        self.default
    }

    /// Allocates for use in the order of `stream`, from what the pool has cached if that is of
    /// about the right size.
    pub(super) fn allocate(&mut self, bytes: usize, id: PoolId, stream: Option<StreamId>) -> Result<Grant, Code> {
        let capacity = bytes.checked_next_multiple_of(GRANULE).ok_or(Code::OUT_OF_MEMORY)?;
        let pool = self.pools.get_mut(id.0).filter(|pool| !pool.destroyed).ok_or(Code::INVALID_HANDLE)?;
        if bytes == 0 {
            return Err(Code::INVALID_VALUE);
        }
        if let Some(cached) = stream.and_then(|stream| pool.take(capacity, stream, self.reuses_unordered)) {
            let start = cached.hold.block.start();
            let (hold, is_free) = (cached.hold.next(), cached.hold.is_over());
            if let Some(range) = self.ground.table.starting_at(start) {
                range.bytes = bytes;
                range.value.live = true;
                range.value.hold.generation = hold.generation;
            }
            return Ok(Grant { start, hold, fresh: false, is_free });
        }
        self.make_room(capacity)?;
        let start = self.ground.place(capacity).ok_or(Code::OUT_OF_MEMORY)?;
        let block = Block::device(start, capacity).ok_or(Code::OUT_OF_MEMORY)?;
        let hold = Hold { block, generation: 1 };
        let value = Allocation { hold: hold.clone(), live: true, pool: id };
        self.ground.table.insert(Range { start, bytes, capacity, value });
        self.ground.cursor = start.wrapping_add(capacity);
        self.ground.reserved = self.ground.reserved.saturating_add(capacity);
        if let Some(pool) = self.pools.get_mut(id.0) {
            pool.grew(capacity);
        }
        Ok(Grant { start, hold, fresh: true, is_free: true })
    }

    /// Takes back a grant whose beginning could not be enqueued on `stream`.
    pub(super) fn cancel(&mut self, grant: &Grant, stream: StreamId) {
        if let Ok(mut retired) = self.retire(grant.start) {
            let before = retired.hold.generation.saturating_sub(1);
            if let Some(range) = self.ground.table.starting_at(grant.start) {
                range.value.hold.generation = before;
            }
            retired.hold.generation = before;
            self.cache(retired, stream);
        }
    }

    /// Begins the free of the allocation at `start`, which must be one that is not freed yet.
    pub(super) fn retire(&mut self, start: usize) -> Result<Retired, Code> {
        let range = self.ground.table.starting_at(start).ok_or(Code::INVALID_VALUE)?;
        if !core::mem::replace(&mut range.value.live, false) {
            return Err(Code::INVALID_VALUE);
        }
        let (hold, pool) = (range.value.hold.clone(), range.value.pool);
        let retired = Retired { start, hold, capacity: range.capacity, pool };
        if let Some(pool) = self.pools.get_mut(pool.0) {
            pool.retired(retired.capacity);
        }
        Ok(retired)
    }

    /// Takes back a free that could not be carried out.
    pub(super) fn revive(&mut self, retired: &Retired) {
        if let Some(range) = self.ground.table.starting_at(retired.start) {
            range.value.live = true;
        }
        if let Some(pool) = self.pools.get_mut(retired.pool.0) {
            pool.revived(retired.capacity);
        }
    }

    /// Ends a free whose execution `stream` orders: the memory goes to the cache of its pool.
    pub(super) fn cache(&mut self, retired: Retired, stream: StreamId) {
        let Retired { hold, capacity, pool, .. } = retired;
        let is_plain = pool == self.plain;
        if let Some(pool) = self.pools.get_mut(pool.0) {
            pool.cache(Cached { hold, capacity, stream });
            if is_plain || pool.destroyed {
                pool.release(&mut self.ground, |_, _| false);
            }
        }
    }

    /// Where a span of device addresses lies, by the calls made so far.
    pub(super) fn locate(&self, address: usize, bytes: usize, cursor: &mut usize) -> Result<&Hold, Code> {
        match self.ground.table.locate(address, bytes, cursor) {
            Located::Inside(range) => Ok(&range.value.hold),
            Located::Across | Located::Clear => Err(Code::INVALID_VALUE),
        }
    }

    /// The block that `address` belongs to.
    pub(super) fn covering(&self, address: usize) -> Option<Arc<Block>> {
        self.ground.table.covering(address).map(|range| Arc::clone(&range.value.hold.block))
    }

    /// Where the allocation begins that `address` belongs to, and how many bytes were asked for.
    pub(super) fn extent(&self, address: usize) -> Option<(usize, usize)> {
        self.ground.table.covering(address).map(|range| (range.start, range.bytes))
    }

    /// What a synchronisation does: each pool gives back what it caches beyond its threshold.
    pub(super) fn settle(&mut self) {
        for pool in self.pools.values_mut() {
            let threshold = pool.threshold;
            pool.release(&mut self.ground, |reserved, _| u64::try_from(reserved).is_ok_and(|bytes| bytes <= threshold));
        }
    }

    pub(super) fn create_pool(&mut self, threshold: u64) -> Result<PoolId, Code> {
        self.pools.remove_if(|pool| pool.destroyed && pool.usage.reserved == 0);
        self.pools.insert(Pool::new(threshold)).map(PoolId).ok_or(Code::OUT_OF_MEMORY)
    }

    pub(super) fn destroy_pool(&mut self, id: PoolId) -> Result<(), Code> {
        if id == self.default || id == self.plain {
            return Err(Code::INVALID_VALUE);
        }
        let pool = self.pools.get_mut(id.0).filter(|pool| !pool.destroyed).ok_or(Code::INVALID_HANDLE)?;
        pool.destroyed = true;
        pool.threshold = 0;
        pool.release(&mut self.ground, |_, _| false);
        Ok(())
    }

    pub(super) fn set_threshold(&mut self, id: PoolId, threshold: u64) -> Result<(), Code> {
        let pool = self.pools.get_mut(id.0).filter(|pool| !pool.destroyed).ok_or(Code::INVALID_HANDLE)?;
        pool.threshold = threshold;
        Ok(())
    }

    pub(super) fn trim(&mut self, id: PoolId, keep: usize) -> Result<(), Code> {
        let pool = self.pools.get_mut(id.0).filter(|pool| !pool.destroyed).ok_or(Code::INVALID_HANDLE)?;
        pool.release(&mut self.ground, |reserved, _| reserved <= keep);
        Ok(())
    }

    pub(super) fn usage(&self, id: PoolId) -> Result<PoolUsage, Code> {
        let pool = self.pools.get(id.0).filter(|pool| !pool.destroyed);
        pool.map(|pool| pool.usage).ok_or(Code::INVALID_HANDLE)
    }

    /// Free and total bytes.
    pub(super) fn info(&self) -> (usize, usize) {
        (self.ground.limit.saturating_sub(self.ground.reserved), self.ground.limit)
    }

    /// How many allocations were not freed yet, and their bytes.
    pub(super) fn live(&self) -> (usize, usize) {
        let live = self.ground.table.iter().filter(|range| range.value.live);
        live.fold((0, 0), |(count, bytes), range| (count.saturating_add(1), bytes.saturating_add(range.bytes)))
    }

    /// How many pools were created and not destroyed.
    pub(super) fn pools(&self) -> usize {
        self.pools.values().filter(|pool| !pool.destroyed).count().saturating_sub(2)
    }

    /// The blocks to drop once the heap is unlocked.
    pub(super) fn dead(&self) -> &[Arc<Block>] {
        &self.ground.dead
    }

    /// Takes the blocks to drop once the heap is unlocked, if there are any.
    pub(super) fn take_dead(&mut self) -> Option<Vec<Arc<Block>>> {
        let dead = &mut self.ground.dead;
        (!dead.is_empty()).then(|| core::mem::take(dead))
    }

    /// Gives an emptied vector back, for its capacity.
    pub(super) fn put_dead(&mut self, empty: Vec<Arc<Block>>) {
        if self.ground.dead.capacity() == 0 {
            self.ground.dead = empty;
        }
    }

    fn make_room(&mut self, capacity: usize) -> Result<(), Code> {
        let limit = self.ground.limit;
        let fits = |reserved: usize| reserved.checked_add(capacity).is_some_and(|total| total <= limit);
        if fits(self.ground.reserved) {
            return Ok(());
        }
        for pool in self.pools.values_mut() {
            pool.release(&mut self.ground, |_, total| fits(total));
        }
        if fits(self.ground.reserved) { Ok(()) } else { Err(Code::OUT_OF_MEMORY) }
    }
}

impl Ground {
    /// Addresses right behind the allocation before, if they are free; around the window once they
    /// run out.
    fn place(&self, capacity: usize) -> Option<usize> {
        let window = self.window.as_ref()?;
        let (base, end) = (window.base(), window.end());
        self.table.gap(self.cursor, end, capacity).or_else(|| self.table.gap(base, end, capacity))
    }
}

impl Grant {
    pub(super) fn filling(&self, poison: Option<u8>) -> Fresh {
        match (poison, self.fresh) {
            (Some(pattern), _) => Fresh::Poison(pattern),
            (None, true) => Fresh::Zero,
            (None, false) => Fresh::Kept,
        }
    }
}

#[cfg(test)]
impl Heap {
    /// The slots of pools, and the ranges of addresses.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.pools.len(), self.ground.table.iter().count())
    }

    pub(super) fn set_cursor_before_end(&mut self, bytes: usize) {
        let end = self.ground.window.as_ref().map_or(0, Window::end);
        self.ground.cursor = end.wrapping_sub(bytes).next_multiple_of(GRANULE);
    }

    /// As if no addresses had been left for the device.
    pub(super) fn lose_window(&mut self) {
        self.ground.window = None;
    }
}
