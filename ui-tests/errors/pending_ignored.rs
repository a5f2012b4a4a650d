// R8: a fence gives its buffers back through `wait`.
// Instead: `let tokens = ctx.fence(tokens)?.wait()?`.
#![deny(unused_must_use)]
use tidelock::{Buffer, Ctx, DeviceLocation, Error, stream::Staged};

pub fn fetch<L: DeviceLocation>(ctx: Ctx<'_, L>, tokens: Buffer<u32, Staged<L>>) -> Result<(), Error> {
    ctx.fence(tokens)?;
    Ok(())
}

fn main() {}
