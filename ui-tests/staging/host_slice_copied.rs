// R3: a stream never reads plain host memory after the call.
// Instead: `ctx.upload(tokens, device)`, which reads it during the call.
use tidelock::{Ctx, DeviceLocation, Result, View, ViewMut};

pub fn send<L: DeviceLocation>(ctx: Ctx<'_, L>, tokens: &[u32], device: ViewMut<'_, u32, L>) -> Result<()> {
    ctx.copy(View::from(tokens), device)
}

fn main() {}
