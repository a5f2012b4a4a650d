// R3: arriving memory belongs to no stream.
// Instead: `tokens.wait()?.stage(&ctx)`, then `ctx.copy(staged.view(), ..)`.
use tidelock::{Buffer, Ctx, DeviceLocation, Result, stream::Arriving};

pub fn up<L: DeviceLocation>(ctx: &Ctx<'_, L>, tokens: &Buffer<u32, Arriving<L::Backend>>, to: &mut Buffer<u32, L>) -> Result<()> {
    ctx.copy(tokens.view(), to.view_mut())
}

fn main() {}
