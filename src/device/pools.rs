//! The memory pools that the streams of a device allocate from.

#![forbid(unsafe_code)]

use core::fmt;

use crate::sync::{Mutex, lock};

/// The pools of the open streams of one device, so that a request that finds no memory reaches what other streams' pools
/// cache.
pub(crate) struct Pools<P> {
    /// Invariant: a pool is listed as often as it was opened and not closed, or less often.
    list: Mutex<Vec<P>>,
}

impl<P: Copy + PartialEq> Pools<P> {
    pub(crate) const fn new() -> Self {
        Pools { list: Mutex::new(Vec::new()) }
    }

    /// Lists the pool of a stream that opens. If the host has no memory for it, the pool is left out.
    pub(crate) fn open(&self, pool: P) {
        let mut list = lock(&self.list);
        if list.try_reserve(1).is_ok() {
            list.push(pool);
        }
    }

    /// Takes the pool of a stream that ends off the list; only then may the caller destroy it.
    pub(crate) fn close(&self, pool: P) {
        let mut list = lock(&self.list);
        if let Some(place) = list.iter().position(|listed| *listed == pool) {
            list.swap_remove(place);
        }
    }

    /// Calls `f` with each pool once. Meanwhile no stream opens or ends, so that each is alive.
    pub(crate) fn each(&self, mut f: impl FnMut(P)) {
        let list = lock(&self.list);
        for (place, pool) in list.iter().enumerate() {
            if list.iter().position(|listed| listed == pool) == Some(place) {
                f(*pool);
            }
        }
    }
}

impl<P> fmt::Debug for Pools<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pools").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_listed_until_its_last_stream_ends_and_visited_once() {
        let pools = Pools::new();
        let visited = || {
            let mut visited = Vec::new();
            pools.each(|pool| visited.push(pool));
            visited
        };
        [1, 2, 1].into_iter().for_each(|pool| pools.open(pool));
        assert_eq!(visited(), [1, 2]);
        pools.close(1);
        assert_eq!(visited(), [1, 2]);
        pools.close(1);
        pools.close(3);
        assert_eq!(visited(), [2]);
    }
}
