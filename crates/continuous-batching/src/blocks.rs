//! The blocks of the KV cache: which table each one is in, and which are free.

#![forbid(unsafe_code)]

/// All blocks of the KV cache. Each names the one after it in its table or in the free list. Tables
/// therefore need no memory of their own, and a whole table is freed at once.
#[derive(Debug)]
pub struct BlockPool {
    next: Vec<u32>,
    free: Chain,
}

/// A linked list of blocks. `first` and `last` have no meaning when it is empty.
#[derive(Clone, Copy, Debug)]
pub struct Chain {
    first: u32,
    last: u32,
    blocks: u32,
}

impl Chain {
    /// The empty list.
    pub const EMPTY: Self = Self { first: 0, last: 0, blocks: 0 };

    /// The number of blocks.
    pub fn blocks(self) -> u32 {
        self.blocks
    }
}

impl BlockPool {
    /// A pool without blocks, which makes `blocks` of them before it allocates again.
    pub fn with_room_for(blocks: usize) -> Self {
        Self { next: Vec::with_capacity(blocks), free: Chain::EMPTY }
    }

    /// Makes a table `blocks` long, from free blocks first and new ones after that.
    pub fn extend(&mut self, table: &mut Chain, blocks: u32) {
        while table.blocks < blocks {
            let block = self.take();
            self.link(table, Chain { first: block, last: block, blocks: 1 });
        }
    }

    /// Frees all blocks of a table.
    pub fn release(&mut self, mut table: Chain) {
        // In front of the free list, so that blocks used last are used again first.
        self.link(&mut table, self.free);
        self.free = table;
    }

    /// The blocks of a table, in order.
    pub fn walk(&self, table: Chain) -> impl Iterator<Item = u32> {
        let mut next = table.first;
        (0..table.blocks).map(move |_| {
            let block = next;
            next = self.next[block as usize];
            block
        })
    }

    /// The number of blocks that were made.
    #[cfg(test)]
    pub fn made(&self) -> usize {
        self.next.len()
    }

    /// The number of blocks that are in no table.
    #[cfg(test)]
    pub fn free(&self) -> u32 {
        self.free.blocks
    }

    /// The number of blocks that fit into the memory of the pool.
    #[cfg(test)]
    pub fn room(&self) -> usize {
        self.next.capacity()
    }

    /// Returns a free block, or else a new one.
    fn take(&mut self) -> u32 {
        let block = self.free.first;
        if self.free.blocks > 0 {
            self.free.first = self.next[block as usize];
            self.free.blocks -= 1;
            return block;
        }
        let block = u32::try_from(self.next.len()).unwrap_or(u32::MAX);
        self.next.push(block);
        block
    }

    /// Puts `tail` behind `chain`.
    fn link(&mut self, chain: &mut Chain, tail: Chain) {
        match (chain.blocks, tail.blocks) {
            (_, 0) => {}
            (0, _) => *chain = tail,
            (count, more) => {
                self.next[chain.last as usize] = tail.first;
                *chain = Chain { first: chain.first, last: tail.last, blocks: count + more };
            }
        }
    }
}
