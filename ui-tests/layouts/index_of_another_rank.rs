// R20: an index has a place for each axis.
// Instead: `layout.offset([i, j])`.
use tidelock::{Layout, Result};

pub fn first(layout: Layout<2>) -> Result<usize> {
    layout.offset([0])
}

fn main() {}
