//! Programs of one iteration: what is allocated and dropped, in which order.

use std::collections::VecDeque;

#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// Allocates this many bytes.
    Take(usize),
    /// Drops the allocation with this index.
    Drop(usize),
}

/// A random number generator of our own, so that a program is the same on every machine
/// (xorshift64*, Vigna 2016).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() >> 16) as usize % n
    }
}

#[derive(Default)]
struct Program {
    events: Vec<Event>,
    taken: usize,
}

impl Program {
    fn take(&mut self, bytes: usize) -> usize {
        self.events.push(Event::Take(bytes));
        self.taken += 1;
        self.taken - 1
    }

    fn drop(&mut self, at: usize) {
        self.events.push(Event::Drop(at));
    }
}

/// `x = layer(x)`, `count` times.
pub fn layers(random: &mut Random, count: usize, size: impl Fn(&mut Random) -> usize) -> Vec<Event> {
    let mut program = Program::default();
    let mut x = program.take(size(random));
    for _ in 0..count {
        let next = program.take(size(random));
        program.drop(x);
        x = next;
    }
    program.drop(x);
    program.events
}

/// Each layer is `percent` of the one before.
pub fn growing_layers(count: usize, percent: usize) -> Vec<Event> {
    let sizes: Vec<usize> =
        std::iter::successors(Some(1000), |size| Some(size * percent / 100)).take(count + 1).collect();
    let mut program = Program::default();
    let mut x = program.take(sizes[0]);
    for size in &sizes[1..] {
        let next = program.take(*size);
        program.drop(x);
        x = next;
    }
    program.drop(x);
    program.events
}

/// 40 layers of one shape, beside allocations that live throughout. Each layer has some
/// temporaries, which are dropped before the layer, in random order.
pub fn model(random: &mut Random) -> Vec<Event> {
    let unit = 256 << random.below(4);
    let mut size = || unit * (random.below(8) + 1);
    let (kept, hidden) = (size(), size());
    let temporaries: Vec<usize> = (0..4).map(|_| size()).collect();
    let (output_at, order) = (random.below(5), random.below(3));
    let mut program = Program::default();
    let kept = program.take(kept);
    let mut x = program.take(hidden);
    for _ in 0..40 {
        let mut own = Vec::new();
        let mut next = None;
        for (at, bytes) in temporaries.iter().enumerate() {
            if at == output_at {
                next = Some(program.take(hidden));
            }
            own.push(program.take(*bytes));
        }
        let next = next.unwrap_or_else(|| program.take(hidden));
        match order {
            0 => own.reverse(),
            1 => own.swap(0, 2),
            _ => {}
        }
        own.into_iter().for_each(|at| program.drop(at));
        program.drop(x);
        x = next;
    }
    program.drop(x);
    program.drop(kept);
    program.events
}

/// Layers of any size, each with up to four temporaries of any size, which are dropped newest
/// first.
pub fn nested_layers(random: &mut Random, count: usize) -> Vec<Event> {
    let mut program = Program::default();
    let mut x = program.take(1024 + random.below(20 << 10));
    for _ in 0..count {
        let temporaries: Vec<_> = (0..random.below(5)).map(|_| program.take(1024 + random.below(20 << 10))).collect();
        let next = program.take(1024 + random.below(20 << 10));
        temporaries.into_iter().rev().for_each(|at| program.drop(at));
        program.drop(x);
        x = next;
    }
    program.drop(x);
    program.events
}

/// Nested allocations: some are dropped, newest first, before others follow.
pub fn last_in_first_out(random: &mut Random, count: usize, size: impl Fn(&mut Random) -> usize) -> Vec<Event> {
    let mut program = Program::default();
    let mut live = Vec::new();
    for _ in 0..count {
        live.push(program.take(size(random)));
        for _ in 0..random.below(3) {
            live.pop().into_iter().for_each(|at| program.drop(at));
        }
    }
    live.into_iter().rev().for_each(|at| program.drop(at));
    program.events
}

/// `width` allocations live at a time; the oldest is dropped first.
pub fn window(random: &mut Random, count: usize, width: usize, size: impl Fn(&mut Random) -> usize) -> Vec<Event> {
    let mut program = Program::default();
    let mut live = VecDeque::new();
    for _ in 0..count {
        live.push_back(program.take(size(random)));
        if live.len() > width {
            live.pop_front().into_iter().for_each(|at| program.drop(at));
        }
    }
    live.into_iter().for_each(|at| program.drop(at));
    program.events
}

/// `count` events, and the drops that are missing. Sizes have one of four distributions, and a drop
/// takes any live allocation.
pub fn random(random: &mut Random, count: usize) -> Vec<Event> {
    let (kind, allocations) = (random.below(4), 50 + random.below(21));
    let mut program = Program::default();
    let mut live = Vec::new();
    for _ in 0..count {
        if live.is_empty() || random.below(100) < allocations {
            let bytes = match kind {
                0 => 1024 + random.below(1025),
                1 => 1 + random.below(20 << 10),
                2 => (256 << random.below(12)) + random.below(1000),
                _ => [256, 512, 1024, 4096][random.below(4)],
            };
            live.push(program.take(bytes));
        } else {
            let at = random.below(live.len());
            let at = live.swap_remove(at);
            program.drop(at);
        }
    }
    live.into_iter().for_each(|at| program.drop(at));
    program.events
}
