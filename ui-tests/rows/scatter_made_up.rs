// R20: a `Scatter` has pairs that were checked, and no others.
// Instead: `scatter.set(pairs, from_rows, to_rows)?`.
use tidelock::buffer::Scatter;

pub fn make(from: Vec<u32>, to: Vec<u32>) -> Scatter {
    Scatter { from, to, len: 1, from_rows: 1, to_rows: 1, ..Scatter::new() }
}

fn main() {}
