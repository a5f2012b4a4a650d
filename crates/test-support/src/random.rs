//! Numbers that are the same in every run.

#![forbid(unsafe_code)]

use proptest::{
    prelude::Rng,
    test_runner::{RngAlgorithm, TestRng},
};

/// A generator.
#[derive(Debug)]
pub struct Random(TestRng);

impl Random {
    /// The generator of this seed.
    pub fn new(seed: u8) -> Self {
        Random(TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]))
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.0.next_u32() as usize) % bound
    }
}
