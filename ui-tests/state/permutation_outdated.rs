// R20: a checked permutation borrows its row numbers, so that they stay as they were checked.
// Instead: change `survivors` first, and check then.
use tidelock::{Permutation, Result};

pub fn plan(survivors: &mut Vec<u32>, old: usize) -> Result<usize> {
    let permutation = Permutation::new(survivors, old, 0)?;
    survivors.push(9);
    Ok(permutation.len())
}

fn main() {}
