// R1: an output is written by the stream that its buffer belongs to.
// Instead: initialise it there, and `transfer` the buffer.
use tidelock::{Ctx, Result, sim::Sim, stream::StreamAlloc};

pub fn foreign<'a, 'b>(a: Ctx<'_, Sim<'a>, StreamAlloc<Sim<'a>>>, b: Ctx<'_, Sim<'b>>) -> Result<()> {
    let (_zeros, ()) = a.init_with(a.alloc::<u32>(4)?, |out| b.clear(out))?;
    Ok(())
}

fn main() {}
