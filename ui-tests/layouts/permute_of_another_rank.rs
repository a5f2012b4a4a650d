// R20: a permutation names every axis.
// Instead: `layout.permute([2, 0, 1])`.
use tidelock::{Layout, Result};

pub fn heads_first(layout: Layout<3>) -> Result<Layout<3>> {
    layout.permute([1, 0])
}

fn main() {}
