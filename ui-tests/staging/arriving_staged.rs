// R3: a stream may still be writing arriving memory.
// Instead: `tokens.wait()?.stage(&ctx)`.
use tidelock::{Buffer, Ctx, DeviceLocation, Result, stream::Arriving};

pub fn again<L: DeviceLocation>(ctx: &Ctx<'_, L>, tokens: Buffer<u32, Arriving<L::Backend>>) -> Result<()> {
    let mut tokens = tokens.stage(ctx);
    ctx.clear(tokens.view_mut())
}

fn main() {}
