// R9: a source does not change through shared references while it is copied.
// Instead: copy out of the cells first: `counts.iter().map(Cell::get).collect::<Vec<_>>()`.
use std::cell::Cell;
use tidelock::{
    DeviceLocation, View,
    stream::{HostScope, Lent},
};

pub fn send<'h, 'env, L: DeviceLocation>(
    scope: &HostScope<'h, 'env, L>,
    counts: &'env [Cell<u32>],
) -> View<'h, Cell<u32>, Lent<L>> {
    scope.source(counts)
}

fn main() {}
