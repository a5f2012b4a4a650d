// R3: a stream never writes plain host memory after the call.
// Instead: copy into staged memory and `peek` at it, or lend the vector in `stream.host_scope(|h| ..)`.
use tidelock::{Ctx, DeviceLocation, Result, View, ViewMut};

pub fn fetch<L: DeviceLocation>(ctx: Ctx<'_, L>, device: View<'_, u32, L>) -> Result<Vec<u32>> {
    let mut tokens = vec![0; device.len()];
    ctx.copy(device, ViewMut::from(&mut tokens[..]))?;
    Ok(tokens)
}

fn main() {}
