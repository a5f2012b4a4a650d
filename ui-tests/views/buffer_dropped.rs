// R17: memory is not given back while a view of it lives.
// Instead: drop `tokens` behind the copy; the free is ordered behind it on the stream.
use tidelock::{Buffer, Ctx, DeviceLocation, Result, ViewMut};

pub fn send<L: DeviceLocation>(ctx: Ctx<'_, L>, tokens: Buffer<u32, L>, target: ViewMut<'_, u32, L>) -> Result<()> {
    let view = tokens.view();
    drop(tokens);
    ctx.copy(view, target)
}

fn main() {}
