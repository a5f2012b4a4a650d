// R1: an output is written by the stream that its buffer belongs to.
// Instead: initialise it there, and `transfer` the buffer.
use tidelock::{Ctx, DeviceLocation, Result, stream::StreamAlloc};

pub fn foreign<A: DeviceLocation, B: DeviceLocation>(a: Ctx<'_, A, StreamAlloc<A>>, b: Ctx<'_, B>) -> Result<()> {
    let (_zeros, ()) = a.init_with(a.alloc::<u32>(4)?, |out| b.clear(out))?;
    Ok(())
}

fn main() {}
