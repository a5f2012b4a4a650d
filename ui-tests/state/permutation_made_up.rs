// R20: a permutation comes from `Permutation::new`, which checks it.
// Instead: `Permutation::new(survivors, old, 0)?`.
use tidelock::{Permutation, buffer::Indices};

pub fn unchecked(rows: Indices<'_>) -> Permutation<'_> {
    Permutation { rows, old: 0 }
}

fn main() {}
