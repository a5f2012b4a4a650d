// R9: an element has no interior mutability.
// Instead: copy out of the cells first: `counts.iter().map(Cell::get).collect::<Vec<_>>()`.
use std::cell::Cell;
use tidelock::{Buffer, Result, location::Host};

pub fn counts() -> Result<Buffer<Cell<u32>, Host>> {
    Buffer::zeros(8)
}

fn main() {}
