// R1: the states of two streams of one backend have two types.
// Instead: each stream keeps its own state; `state.swap()` swaps front and back of one.
use tidelock::{State, sim::Sim};

pub fn rebalance<'a, 'b>(a: &mut State<u32, Sim<'a>>, b: &mut State<u32, Sim<'b>>) {
    std::mem::swap(a, b);
}

fn main() {}
