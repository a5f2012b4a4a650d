// R20: a scalar has no axis to select from.
// Instead: a layout of rank 1 or more.
use tidelock::{Layout, Result};

pub fn part(scalar: Layout<0>) -> Result<usize> {
    let (_, offset) = scalar.select(0, 0)?;
    Ok(offset)
}

fn main() {}
