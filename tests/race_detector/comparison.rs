//! What all comparisons of the race detector with a reference share: random programs on a few cells
//! of memory, and a count of what was compared.

use tidelock::sim::Use;

/// Bytes of a cell.
pub const CELL: usize = 32;

/// A generator of random numbers.
pub struct Rng(pub u64);

impl Rng {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    /// A random range of one or more of `count` cells: the first, and the one after the last.
    pub fn cells(&mut self, count: usize) -> (usize, usize) {
        let first = self.below(count);
        (first, first + 1 + self.below(count - first))
    }
}

/// A use of a range of the cells that begin at address `memory`.
pub fn use_of(memory: usize, cells: (usize, usize), writes: bool) -> Use {
    let at = core::ptr::with_exposed_provenance_mut::<u8>(memory + cells.0 * CELL);
    let bytes = (cells.1 - cells.0) * CELL;
    if writes { Use::write(at, bytes) } else { Use::read(at, bytes) }
}

/// How much was compared.
#[derive(Debug, Default)]
pub struct Tally {
    pub accesses: usize,
    racy: usize,
    ordered: usize,
}

impl Tally {
    /// Counts a program.
    pub fn program(&mut self, races: bool) {
        *if races { &mut self.racy } else { &mut self.ordered } += 1;
    }

    /// Asserts that there were enough programs of both kinds, and enough accesses.
    #[track_caller]
    pub fn assert_more_than(&self, programs: usize, accesses: usize) {
        println!("{self:?}");
        assert!(self.racy > programs && self.ordered > programs && self.accesses > accesses, "{self:?}");
    }
}
