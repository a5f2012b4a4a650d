//! Seeded randomness of one stream.

#![forbid(unsafe_code)]

use core::time::Duration;
use std::thread;

use crate::options::Delay;

/// SplitMix64: small, and good enough to shake threads.
#[derive(Debug)]
pub(super) struct Rng {
    state: u64,
}

impl Rng {
    pub(super) const fn new(seed: u64, stream: u64) -> Self {
        Rng { state: seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15) }
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is below 2^32; 0 if `bound` is 0.
    pub(super) const fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 32).wrapping_mul(bound) >> 32
    }

    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let bound = u64::try_from(last).unwrap_or(0).saturating_add(1);
            let chosen = usize::try_from(self.below(bound)).unwrap_or(0);
            items.swap(last, chosen.min(last));
        }
    }

    pub(super) fn dawdle(&mut self, delay: Delay) {
        match delay {
            Delay::None => {}
            Delay::Upto(longest) if self.below(8) == 0 => {
                let nanos = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
                thread::sleep(Duration::from_nanos(self.next().checked_rem(nanos).unwrap_or(0)));
            }
            Delay::Upto(_) => thread::yield_now(),
        }
    }
}
