//! The iteration that sizes a region: each of its allocations is placed by every policy, in regions without a limit.

#![forbid(unsafe_code)]

use core::hash::BuildHasherDefault;
use std::{collections::HashMap, hash::DefaultHasher};

use super::space::{Place, Policy, Space};

const POLICIES: usize = Policy::ALL.len();

/// What an iteration would have needed with each policy.
///
/// Its memory is bounded by what lives at one time. Cost: O(log n) for each allocation and each drop of the iteration.
#[derive(Debug)]
pub(super) struct Rehearsal {
    /// One for each policy.
    spaces: Vec<Space>,
    /// Where each living allocation lies in each of them, by its address.
    places: HashMap<usize, [Place; POLICIES], BuildHasherDefault<DefaultHasher>>,
    /// Whether the host had no memory to go on.
    broken: bool,
}

/// More than any address space has.
const NO_LIMIT: usize = usize::MAX;

impl Rehearsal {
    pub(super) fn new() -> Self {
        Rehearsal { spaces: Vec::new(), places: HashMap::default(), broken: false }
    }

    /// `bytes` bytes, which are not 0, were allocated at `address`.
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

    /// The `bytes` bytes at `address` were given back.
    pub(super) fn give(&mut self, address: usize, bytes: usize) {
        let Some(places) = self.places.remove(&address) else { return };
        for (space, place) in self.spaces.iter_mut().zip(places) {
            space.give(place, bytes);
        }
    }

    /// The first policy that needs no more than `capacity` bytes, or the one that needs least; and what it needs.
    pub(super) fn best(&self, capacity: usize) -> Option<(Policy, usize)> {
        if self.broken {
            return None;
        }
        let least = self.spaces.iter().map(Space::need).min()?.max(capacity);
        self.spaces.iter().find(|space| space.need() <= least).map(|space| (space.policy(), space.need()))
    }
}
