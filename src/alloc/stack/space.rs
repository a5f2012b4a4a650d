//! Where in a region an allocation is placed: offsets only, no memory.

#![forbid(unsafe_code)]

use super::holes::{Hole, Holes};

/// A region of `capacity` bytes that is filled from both ends. The free bytes are between the two
/// sides, and in holes.
///
/// An allocation goes into the smallest hole that it fits into. If there is none, the policy
/// chooses the side that grows. The choice does not depend on the capacity: the same sequence of
/// allocations and frees gets the same places in any region that is large enough, so that the
/// largest sum of both extents is the size that it needs.
#[derive(Debug)]
pub(super) struct Space {
    policy: Policy,
    capacity: usize,
    /// From the start of the region upwards.
    pub(super) low: Side,
    /// From the end of the region downwards.
    far: Side,
    /// The largest sum of the extents.
    need: usize,
    /// Whether the last allocation that fitted into no hole went to the far side.
    last_far: bool,
    /// Bytes of all requests since the last reset.
    requested: usize,
    /// Requests since the last reset.
    requests: usize,
}

/// Which side grows when an allocation fits into no hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    /// The low side. Best where the newest allocation is dropped first.
    Low,
    /// The shorter side. Best where the output of a layer replaces its input.
    Shorter,
    /// One side until the other is empty. Best where the oldest allocation is dropped first.
    Sweep,
    /// The sides in turn.
    Turns,
    /// The low side for requests above the mean size, the far side for others.
    BySize,
}

/// Where an allocation lies: `at` bytes from the outer end of its side.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    far: bool,
    at: usize,
}

/// One side of a region: allocations and holes from 0 to `extent`.
#[derive(Debug)]
pub(super) struct Side {
    /// The end of the last allocation.
    pub(super) extent: usize,
    /// Free bytes below `extent`.
    free: usize,
    /// Invariants:
    /// 1. Holes lie below `extent`, neither overlap nor touch one another, and none ends at
    ///    `extent`.
    /// 2. They have `free` bytes, or fewer if there was no memory to record one.
    holes: Holes,
}

impl Policy {
    /// All policies. Of several that need the same region, the first one is used.
    pub(super) const ALL: [Policy; 5] = [Policy::Low, Policy::Shorter, Policy::Sweep, Policy::Turns, Policy::BySize];
}

impl Place {
    /// The offset of the first of `bytes` bytes at this place in a region of `capacity` bytes.
    pub(super) const fn offset(self, capacity: usize, bytes: usize) -> usize {
        if self.far { capacity.wrapping_sub(self.at).wrapping_sub(bytes) } else { self.at }
    }
}

impl Space {
    pub(super) const fn new(policy: Policy, capacity: usize) -> Self {
        Space {
            policy,
            capacity,
            low: Side::new(),
            far: Side::new(),
            need: 0,
            last_far: true,
            requested: 0,
            requests: 0,
        }
    }

    /// Removes all allocations. The memory for holes is kept.
    pub(super) fn reset(&mut self, policy: Policy, capacity: usize) {
        self.low.clear();
        self.far.clear();
        (self.policy, self.capacity, self.need, self.last_far) = (policy, capacity, 0, true);
        (self.requested, self.requests) = (0, 0);
    }

    pub(super) const fn policy(&self) -> Policy {
        self.policy
    }

    /// The size of the smallest region that the allocations since the last reset fit into.
    pub(super) fn need(&self) -> usize {
        self.need.max(self.extents())
    }

    /// Whether it is a plain stack: only the low side is used, without holes, and the policy never
    /// grows the other side.
    pub(super) fn is_plain(&self) -> bool {
        self.policy == Policy::Low && self.low.free == 0 && self.far.extent == 0
    }

    /// The allocated bytes less the extent of the low side, modulo 2^64.
    pub(super) const fn beside_low(&self) -> usize {
        self.far.extent.wrapping_sub(self.far.free).wrapping_sub(self.low.free)
    }

    const fn extents(&self) -> usize {
        self.low.extent.saturating_add(self.far.extent)
    }

    /// Places `bytes` bytes, which are not 0, if there is room.
    pub(super) fn take(&mut self, bytes: usize) -> Option<Place> {
        self.requested = self.requested.saturating_add(bytes);
        self.requests = self.requests.saturating_add(1);
        let far = match (self.low.holes.fit(bytes), self.far.holes.fit(bytes)) {
            (Some(low), Some(far)) => Some((far.len() < low.len(), if far.len() < low.len() { far } else { low })),
            (Some(low), None) => Some((false, low)),
            (None, Some(far)) => Some((true, far)),
            (None, None) => None,
        };
        if let Some((far, hole)) = far {
            self.side(far).fill(hole, bytes);
            return Some(Place { far, at: hole.start });
        }
        if bytes > self.capacity.saturating_sub(self.extents()) {
            return None;
        }
        let far = self.grows_far(bytes);
        self.last_far = far;
        let side = self.side(far);
        let at = side.extent;
        // It does not wrap: `capacity` has room for `bytes` beyond both extents.
        side.extent = at.wrapping_add(bytes);
        self.need = self.need();
        Some(Place { far, at })
    }

    /// Frees the `bytes` bytes at `place`.
    pub(super) fn give(&mut self, place: Place, bytes: usize) {
        // A plain stack grows its low side without a call of `take`.
        self.need = self.need();
        self.side(place.far).give(place.at, bytes);
    }

    /// The place of the `bytes` bytes that start at `offset` of the region.
    pub(super) const fn place(&self, offset: usize, bytes: usize) -> Place {
        if offset < self.low.extent {
            Place { far: false, at: offset }
        } else {
            Place { far: true, at: self.capacity.wrapping_sub(offset).wrapping_sub(bytes) }
        }
    }

    const fn side(&mut self, far: bool) -> &mut Side {
        if far { &mut self.far } else { &mut self.low }
    }

    const fn grows_far(&self, bytes: usize) -> bool {
        match self.policy {
            Policy::Low => false,
            Policy::Shorter => self.far.extent < self.low.extent,
            Policy::Sweep if self.low.extent == 0 => false,
            Policy::Sweep => self.far.extent == 0 || self.last_far,
            Policy::Turns => !self.last_far,
            Policy::BySize => bytes.saturating_mul(self.requests) <= self.requested,
        }
    }
}

impl Side {
    const fn new() -> Self {
        Side { extent: 0, free: 0, holes: Holes::new() }
    }

    fn clear(&mut self) {
        (self.extent, self.free) = (0, 0);
        self.holes.clear();
    }

    /// Allocates the first `bytes` bytes of a hole.
    fn fill(&mut self, hole: Hole, bytes: usize) {
        self.free = self.free.wrapping_sub(bytes);
        self.holes.remove(hole);
        let rest = Hole { start: hole.start.wrapping_add(bytes), ..hole };
        if rest.len() > 0 {
            self.holes.insert(rest);
        }
    }

    /// Frees `bytes` bytes at `at`, and merges the hole with its neighbours.
    fn give(&mut self, at: usize, bytes: usize) {
        let mut hole = Hole { start: at, end: at.wrapping_add(bytes) };
        self.free = self.free.wrapping_add(bytes);
        if self.free == self.extent {
            self.clear();
            return;
        }
        if let Some(before) = self.holes.before(at).filter(|before| before.end == at) {
            self.holes.remove(before);
            hole.start = before.start;
        }
        if hole.end == self.extent {
            self.extent = hole.start;
            self.free = self.free.wrapping_sub(hole.len());
            return;
        }
        if let Some(after) = self.holes.at(hole.end) {
            self.holes.remove(after);
            hole.end = after.end;
        }
        self.holes.insert(hole);
    }
}
