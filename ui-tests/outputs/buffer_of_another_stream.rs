// R1: a stream initialises memory of its own.
// Instead: `b.init_with(..)`, on the stream that the memory belongs to.
use tidelock::{Ctx, DeviceLocation, Result, stream::StreamAlloc};

pub fn foreign<A: DeviceLocation, B: DeviceLocation>(a: Ctx<'_, A>, b: Ctx<'_, B, StreamAlloc<B>>) -> Result<()> {
    let (_zeros, ()) = a.init_with(b.alloc::<u32>(4)?, |out| b.clear(out))?;
    Ok(())
}

fn main() {}
