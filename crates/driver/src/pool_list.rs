//! The memory pools of the open streams of a device.

#![forbid(unsafe_code)]

use core::fmt;

use crate::sync::{Mutex, lock};

/// The pools of the open streams of one device, so that a request that finds no memory can trim the
/// pools of other streams (M10).
pub struct PoolList<P> {
    /// Invariant: a pool is listed at most as often as it was opened and not closed.
    list: Mutex<Vec<P>>,
}

impl<P: Copy + PartialEq> PoolList<P> {
    /// An empty list.
    #[inline]
    #[must_use]
    pub const fn new() -> Self {
        PoolList { list: Mutex::new(Vec::new()) }
    }

    /// Adds the pool of a stream that opens. If the host has no memory for the entry, the pool is
    /// left out.
    #[inline]
    pub fn open(&self, pool: P) {
        let mut list = lock(&self.list);
        if list.try_reserve(1).is_ok() {
            list.push(pool);
        }
    }

    /// Removes the pool of a stream that ends. The caller may destroy the pool only after that.
    #[inline]
    pub fn close(&self, pool: P) {
        let mut list = lock(&self.list);
        if let Some(place) = list.iter().position(|listed| *listed == pool) {
            list.swap_remove(place);
        }
    }

    /// Calls `f` with each pool once. No pool is destroyed meanwhile, because the list is locked.
    #[inline]
    pub fn each(&self, mut f: impl FnMut(P)) {
        let list = lock(&self.list);
        for (place, pool) in list.iter().enumerate() {
            if list.iter().position(|listed| listed == pool) == Some(place) {
                f(*pool);
            }
        }
    }

    /// Calls `f` with each pool but `own`, as [`each`](PoolList::each) does. Returns whether there
    /// are such pools (M10).
    #[inline]
    pub fn each_other(&self, own: Option<P>, mut f: impl FnMut(P)) -> bool {
        let mut are_there = false;
        self.each(|pool| {
            if Some(pool) != own {
                are_there = true;
                f(pool);
            }
        });
        are_there
    }

    /// The sum of the bytes that `bytes` returns for each pool (M11).
    ///
    /// # Errors
    /// The first error of `bytes`, which is not called any more then.
    #[inline]
    pub fn sum<E>(&self, mut bytes: impl FnMut(P) -> Result<usize, E>) -> Result<usize, E> {
        let mut sum = Ok(0_usize);
        self.each(|pool| {
            let so_far = core::mem::replace(&mut sum, Ok(0));
            sum = so_far.and_then(|so_far| Ok(so_far.saturating_add(bytes(pool)?)));
        });
        sum
    }
}

impl<P: Copy + PartialEq> Default for PoolList<P> {
    #[inline]
    fn default() -> Self {
        PoolList::new()
    }
}

impl<P> fmt::Debug for PoolList<P> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolList").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_listed_until_its_last_stream_ends_and_visited_once() {
        let pools = PoolList::new();
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

    #[test]
    fn the_own_pool_is_left_out_and_a_sum_ends_at_the_first_error() {
        let pools = PoolList::new();
        let others = |own| {
            let mut others = Vec::new();
            let are_there = pools.each_other(own, |pool| others.push(pool));
            (are_there, others)
        };
        assert_eq!(others(Some(1)), (false, vec![]));
        [1, 2, 1, 3].into_iter().for_each(|pool| pools.open(pool));
        assert_eq!(others(Some(1)), (true, vec![2, 3]));
        assert_eq!(others(None), (true, vec![1, 2, 3]));
        assert_eq!(pools.sum(|pool| Ok::<_, ()>(10 * pool)), Ok(60));
        let mut asked = Vec::new();
        let refused = pools.sum(|pool| {
            asked.push(pool);
            if pool == 2 { Err("refused") } else { Ok(usize::MAX) }
        });
        assert_eq!((refused, asked), (Err("refused"), vec![1, 2]));
        assert_eq!(pools.sum(|_| Ok::<_, ()>(usize::MAX)), Ok(usize::MAX));
    }
}
