// R2: what belongs to a stream stays on the stream's thread.
// Instead: send a message to the thread of the stream, which drops the memory or enqueues more.
use tidelock::{Ctx, DeviceLocation, Result, stream::StreamAlloc};

pub fn free_later<L: DeviceLocation>(ctx: Ctx<'_, L, StreamAlloc<L>>) -> Result<()> {
    let memory = ctx.zeros::<u32>(8)?;
    ctx.notify(move |_| drop(memory))?;
    Ok(())
}

fn main() {}
