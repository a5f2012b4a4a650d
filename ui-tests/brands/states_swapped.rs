// R1: the states of two streams have two types.
// Instead: each stream keeps its own state; `state.swap()` swaps front and back of one.
use tidelock::{DeviceLocation, State};

pub fn rebalance<A: DeviceLocation, B: DeviceLocation>(a: &mut State<u32, A>, b: State<u32, B>) {
    *a = b;
}

fn main() {}
