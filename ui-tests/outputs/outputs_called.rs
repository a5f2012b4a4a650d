// R6: only `init_with` makes outputs, because it waits for their end and counts them.
// Instead: `ctx.init_with(fresh, |out| ..)`.
use std::mem::MaybeUninit;
use tidelock::{Buffer, buffer::Output, sim::Sim, stream::Fresh};

pub fn make<'s, 'o>(
    fresh: &mut Buffer<MaybeUninit<u32>, Sim<'s>>,
    counter: &'o <Buffer<MaybeUninit<u32>, Sim<'s>> as Fresh<Sim<'s>>>::Counters,
) -> Output<'o, u32, Sim<'s>> {
    fresh.outputs(counter)
}

fn main() {}
