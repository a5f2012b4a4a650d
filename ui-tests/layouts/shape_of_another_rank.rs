// R20: the rank is in the type.
// Instead: a shape of two extents, or a function for `Layout<3>`.
use tidelock::{Layout, Result};

pub fn pages(count: usize) -> Result<Layout<2>> {
    Layout::new([count, 16, 128])
}

fn main() {}
