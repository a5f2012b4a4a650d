//! The iteration that determines the size of a region: each of its allocations is placed by every
//! policy, in a space without a limit.

#![forbid(unsafe_code)]

use core::hash::BuildHasherDefault;
use std::{collections::HashMap, hash::DefaultHasher};

use super::space::{Place, Policy, Space};

const POLICIES: usize = Policy::ALL.len();

/// The region that an iteration would have needed with each policy.
///
/// Memory: proportional to the most allocations alive at one time. Cost: O(log n) for each
/// allocation and each free of the iteration.
#[derive(Debug)]
pub(super) struct Rehearsal {
    /// A space for each policy.
    spaces: Vec<Space>,
    /// The place of each live allocation in each space, by its address.
    places: HashMap<usize, [Place; POLICIES], BuildHasherDefault<DefaultHasher>>,
    /// Whether the host had no memory for the records: there is no result then.
    broken: bool,
}

/// A capacity that no allocation exceeds.
const NO_LIMIT: usize = usize::MAX;

impl Rehearsal {
    pub(super) fn new() -> Self {
        Rehearsal { spaces: Vec::new(), places: HashMap::default(), broken: false }
    }

    /// Records that `bytes` bytes, which are not 0, were allocated at `address`.
    pub(super) fn take(&mut self, address: usize, bytes: usize) {
        if self.spaces.is_empty() {
            self.broken |= self.spaces.try_reserve_exact(POLICIES).is_err();
            if !self.broken {
                self.spaces.extend(Policy::ALL.map(|policy| Space::new(policy, NO_LIMIT)));
            }
        }
        self.broken |= self.places.try_reserve(1).is_err();
        if self.broken {
            return;
        }
        let mut places = [Place::default(); POLICIES];
        for (space, place) in self.spaces.iter_mut().zip(&mut places) {
            match space.take(bytes) {
                Some(at) => *place = at,
                None => self.broken = true,
            }
        }
        self.places.insert(address, places);
    }

    /// Records that the `bytes` bytes at `address` were freed.
    pub(super) fn give(&mut self, address: usize, bytes: usize) {
        let Some(places) = self.places.remove(&address) else { return };
        for (space, place) in self.spaces.iter_mut().zip(places) {
            space.give(place, bytes);
        }
    }

    /// The first policy that needs at most `capacity` bytes, else the one that needs least; and the
    /// bytes that it needs.
    pub(super) fn best(&self, capacity: usize) -> Option<(Policy, usize)> {
        if self.broken {
            return None;
        }
        let least = self.spaces.iter().map(Space::need).min()?.max(capacity);
        self.spaces.iter().find(|space| space.need() <= least).map(|space| (space.policy(), space.need()))
    }
}
