//! Where in a region an allocation goes: numbers only, no memory.

#![forbid(unsafe_code)]

use super::holes::{Hole, Holes};

/// A region of `capacity` bytes that is filled from both sides, with what is free between them.
///
/// An allocation goes into the smallest hole that it fits into. Where there is none, the policy names the side that grows. The
/// choice does not depend on the capacity: a program that repeats itself takes the same places in any region that is large
/// enough, so that the largest sum of both extents is the size it needs.
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
    /// Whether the last one that fitted into no hole went to the far side.
    last_far: bool,
    /// How many bytes in how many allocations were asked for.
    asked: usize,
    count: usize,
}

/// Which side grows when an allocation fits into no hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    /// The low side: right where the newest is dropped first.
    Low,
    /// The shorter side: right where a layer's output replaces its input.
    Shorter,
    /// One side until the other is empty: right where the oldest is dropped first.
    Sweep,
    /// The sides in turn.
    Turns,
    /// What is larger than the mean goes to the low side.
    BySize,
}

/// Where an allocation lies: so many bytes from the end of its side.
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
    /// The bytes below `extent` that are free.
    free: usize,
    /// Invariants:
    /// 1. They lie below `extent`, do not overlap nor touch one another, and none ends at `extent`.
    /// 2. They are `free` bytes, or fewer if there was no memory to note one.
    holes: Holes,
}

impl Policy {
    /// All of them; of those that need the same, the first is taken.
    pub(super) const ALL: [Policy; 5] = [Policy::Low, Policy::Shorter, Policy::Sweep, Policy::Turns, Policy::BySize];
}

impl Place {
    /// The offset of its first byte in a region of `capacity` bytes, of which it takes `bytes`.
    pub(super) const fn offset(self, capacity: usize, bytes: usize) -> usize {
        if self.far { capacity.wrapping_sub(self.at).wrapping_sub(bytes) } else { self.at }
    }
}

impl Space {
    pub(super) const fn new(policy: Policy, capacity: usize) -> Self {
        Space { policy, capacity, low: Side::new(), far: Side::new(), need: 0, last_far: true, asked: 0, count: 0 }
    }

    /// Empties it. What memory it has for holes stays.
    pub(super) fn reset(&mut self, policy: Policy, capacity: usize) {
        self.low.clear();
        self.far.clear();
        (self.policy, self.capacity, self.need, self.last_far) = (policy, capacity, 0, true);
        (self.asked, self.count) = (0, 0);
    }

    pub(super) const fn policy(&self) -> Policy {
        self.policy
    }

    /// The size of the smallest region that would have done.
    pub(super) fn need(&self) -> usize {
        self.need.max(self.extents())
    }

    /// Whether it is a stack: nothing but the low side, without holes, and nothing that grows the other side.
    pub(super) fn is_plain(&self) -> bool {
        self.policy == Policy::Low && self.low.free == 0 && self.far.extent == 0
    }

    /// The bytes that are allocated, less those of the low side and its holes.
    pub(super) const fn beside_low(&self) -> usize {
        self.far.extent.wrapping_sub(self.far.free).wrapping_sub(self.low.free)
    }

    const fn extents(&self) -> usize {
        self.low.extent.saturating_add(self.far.extent)
    }

    /// The place of `bytes` bytes, which are not 0, if there is one.
    pub(super) fn take(&mut self, bytes: usize) -> Option<Place> {
        self.asked = self.asked.saturating_add(bytes);
        self.count = self.count.saturating_add(1);
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
        // It does not wrap: `bytes` are at most what `capacity` has left.
        side.extent = at.wrapping_add(bytes);
        self.need = self.need();
        Some(Place { far, at })
    }

    /// Gives back the `bytes` bytes of `place`.
    pub(super) fn give(&mut self, place: Place, bytes: usize) {
        // The low side of a stack grows without this being called.
        self.need = self.need();
        self.side(place.far).give(place.at, bytes);
    }

    /// The place of the `bytes` bytes from `offset` on.
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
            Policy::BySize => bytes.saturating_mul(self.count) <= self.asked,
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

    /// Takes the first `bytes` bytes of a hole.
    fn fill(&mut self, hole: Hole, bytes: usize) {
        self.free = self.free.wrapping_sub(bytes);
        self.holes.remove(hole);
        let rest = Hole { start: hole.start.wrapping_add(bytes), ..hole };
        if rest.len() > 0 {
            self.holes.insert(rest);
        }
    }

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
