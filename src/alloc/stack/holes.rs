//! The holes of one side of an arena: freed ranges, ordered by place and by size.

#![forbid(unsafe_code)]

/// A range of free memory. It is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hole {
    pub(super) start: usize,
    pub(super) end: usize,
}

/// A set of holes that do not overlap.
///
/// Each hole is a node of two treaps, one ordered by place, one by size. The nodes lie in one
/// vector, which keeps its capacity when holes are removed, so that repeated iterations make no
/// heap allocation. Cost of each operation: O(log n) expected; the priorities come from a private
/// generator.
#[derive(Debug)]
pub(super) struct Holes {
    nodes: Vec<Node>,
    by_place: usize,
    by_size: usize,
    /// The first unused node; `place.less` of each is the next one.
    unused: usize,
    random: u64,
}

/// No node: no vector has this index.
const NONE: usize = usize::MAX;

#[derive(Clone, Copy, Debug)]
struct Node {
    hole: Hole,
    priority: u64,
    place: Children,
    size: Children,
}

#[derive(Clone, Copy, Debug)]
struct Children {
    less: usize,
    more: usize,
}

#[derive(Clone, Copy)]
enum Order {
    Place,
    Size,
}

type Key = (usize, usize);

impl Order {
    fn key(self, hole: Hole) -> Key {
        match self {
            Order::Place => (hole.start, hole.end),
            Order::Size => (hole.len(), hole.start),
        }
    }
}

impl Hole {
    pub(super) const fn len(self) -> usize {
        self.end.wrapping_sub(self.start)
    }
}

impl Holes {
    pub(super) const fn new() -> Self {
        Holes { nodes: Vec::new(), by_place: NONE, by_size: NONE, unused: NONE, random: 0x9e37_79b9_7f4a_7c15 }
    }

    /// Removes all holes, and keeps the capacity.
    pub(super) fn clear(&mut self) {
        self.nodes.clear();
        (self.by_place, self.by_size, self.unused) = (NONE, NONE, NONE);
    }

    /// The smallest hole of at least `len` bytes; of several, the first one.
    pub(super) fn fit(&self, len: usize) -> Option<Hole> {
        let (mut at, mut found) = (self.by_size, None);
        while let Some(node) = self.nodes.get(at) {
            at = if node.hole.len() >= len {
                found = Some(node.hole);
                node.size.less
            } else {
                node.size.more
            };
        }
        found
    }

    /// The last hole that starts before `place`.
    pub(super) fn before(&self, place: usize) -> Option<Hole> {
        let (mut at, mut found) = (self.by_place, None);
        while let Some(node) = self.nodes.get(at) {
            at = if node.hole.start < place {
                found = Some(node.hole);
                node.place.more
            } else {
                node.place.less
            };
        }
        found
    }

    /// The hole that starts at `place`.
    pub(super) fn at(&self, place: usize) -> Option<Hole> {
        // Holes are not empty, so that the next one starts later.
        self.before(place.wrapping_add(1)).filter(|hole| hole.start == place)
    }

    /// Adds a hole. Without memory for the node it is not added, and its bytes stay unused.
    pub(super) fn insert(&mut self, hole: Hole) {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let alone = Children { less: NONE, more: NONE };
        let node = Node { hole, priority: self.random, place: alone, size: alone };
        let at = self.unused;
        let at = if let Some(slot) = self.nodes.get_mut(at) {
            self.unused = slot.place.less;
            *slot = node;
            at
        } else if self.nodes.try_reserve(1).is_ok() {
            self.nodes.push(node);
            self.nodes.len().wrapping_sub(1)
        } else {
            return;
        };
        for order in [Order::Place, Order::Size] {
            let (less, more) = self.split(order, self.root(order), order.key(hole));
            let less = self.merge(order, less, at);
            let root = self.merge(order, less, more);
            self.set_root(order, root);
        }
    }

    /// Removes a hole, which must be in the set.
    pub(super) fn remove(&mut self, hole: Hole) {
        let mut at = NONE;
        for order in [Order::Place, Order::Size] {
            let key = order.key(hole);
            let (less, rest) = self.split(order, self.root(order), key);
            let (found, more) = self.split(order, rest, (key.0, key.1.wrapping_add(1)));
            let root = self.merge(order, less, more);
            self.set_root(order, root);
            at = found;
        }
        let unused = self.unused;
        if let Some(node) = self.nodes.get_mut(at) {
            node.place.less = unused;
            self.unused = at;
        }
    }

    const fn root(&self, order: Order) -> usize {
        match order {
            Order::Place => self.by_place,
            Order::Size => self.by_size,
        }
    }

    const fn set_root(&mut self, order: Order, root: usize) {
        match order {
            Order::Place => self.by_place = root,
            Order::Size => self.by_size = root,
        }
    }

    fn node(&self, order: Order, at: usize) -> Option<(Key, u64, Children)> {
        let node = self.nodes.get(at)?;
        let children = match order {
            Order::Place => node.place,
            Order::Size => node.size,
        };
        Some((order.key(node.hole), node.priority, children))
    }

    fn set_children(&mut self, order: Order, at: usize, children: Children) {
        if let Some(node) = self.nodes.get_mut(at) {
            match order {
                Order::Place => node.place = children,
                Order::Size => node.size = children,
            }
        }
    }

    /// Splits the treap `root` into the nodes below `key` and the others.
    fn split(&mut self, order: Order, root: usize, key: Key) -> (usize, usize) {
        let Some((own, _, children)) = self.node(order, root) else { return (NONE, NONE) };
        if own < key {
            let (less, more) = self.split(order, children.more, key);
            self.set_children(order, root, Children { more: less, ..children });
            (root, more)
        } else {
            let (less, more) = self.split(order, children.less, key);
            self.set_children(order, root, Children { less: more, ..children });
            (less, root)
        }
    }

    /// Joins two treaps. Every key of `less` is below every key of `more`.
    fn merge(&mut self, order: Order, less: usize, more: usize) -> usize {
        let Some((_, first, left)) = self.node(order, less) else { return more };
        let Some((_, second, right)) = self.node(order, more) else { return less };
        if first > second {
            let middle = self.merge(order, left.more, more);
            self.set_children(order, less, Children { more: middle, ..left });
            less
        } else {
            let middle = self.merge(order, less, right.less);
            self.set_children(order, more, Children { less: middle, ..right });
            more
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Holes {
        fn depth(&self, order: Order, at: usize) -> usize {
            let Some((_, _, children)) = self.node(order, at) else { return 0 };
            1 + self.depth(order, children.less).max(self.depth(order, children.more))
        }

        /// The deepest node of both orders.
        fn deepest(&self) -> usize {
            self.depth(Order::Place, self.by_place).max(self.depth(Order::Size, self.by_size))
        }
    }

    /// A hole at every second of `2 * n` places, added in the order of `nth`.
    fn every_second(n: usize, nth: impl Fn(usize) -> usize) -> Holes {
        let mut holes = Holes::new();
        for i in 0..n {
            let start = 512 * nth(i);
            holes.insert(Hole { start, end: start + 256 });
        }
        holes
    }

    #[test]
    fn a_search_looks_at_logarithmically_many_holes() {
        for n in [1_000, 10_000, 100_000_usize] {
            // Upwards as in first-in-first-out drops, downwards, and scattered: 7919 shares no
            // divisor with any n.
            let orders: [&dyn Fn(usize) -> usize; 3] = [&|i| i, &|i| n - 1 - i, &|i| i * 7919 % n];
            for nth in orders {
                let mut holes = every_second(n, nth);
                let most = 4 * n.ilog2() as usize;
                assert!(holes.deepest() <= most, "{n}: {} > {most}", holes.deepest());
                // Half of them are removed, and others are added.
                for i in (0..n).step_by(2) {
                    let start = 512 * nth(i);
                    holes.remove(Hole { start, end: start + 256 });
                    holes.insert(Hole { start, end: start + 1 + i % 256 });
                }
                assert!(holes.deepest() <= most, "{n}: {} > {most}", holes.deepest());
                assert_eq!(holes.nodes.len(), n, "nodes are reused");
            }
        }
    }

    #[test]
    fn both_orders_agree_with_a_list() {
        let mut random = 1_u64;
        let mut below = |n: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) as usize % n
        };
        let (mut holes, mut list) = (Holes::new(), Vec::<Hole>::new());
        for _ in 0..20_000 {
            let start = 100 * below(200);
            match list.iter().position(|hole| hole.start == start) {
                Some(at) => holes.remove(list.swap_remove(at)),
                None => {
                    let hole = Hole { start, end: start + 1 + below(99) };
                    holes.insert(hole);
                    list.push(hole);
                }
            }
            let (place, len) = (below(20_100), below(110));
            let before = list.iter().filter(|hole| hole.start < place).max_by_key(|hole| hole.start);
            assert_eq!(holes.before(place), before.copied());
            assert_eq!(holes.at(place), list.iter().find(|hole| hole.start == place).copied());
            let fit = list.iter().filter(|hole| hole.len() >= len).min_by_key(|hole| (hole.len(), hole.start));
            assert_eq!(holes.fit(len), fit.copied());
        }
    }
}
