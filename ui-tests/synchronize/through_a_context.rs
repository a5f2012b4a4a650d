// R2: only the unique `Stream` synchronises; a context has siblings that may enqueue meanwhile.
// Instead: take `stream: &mut Stream<L>` and call `stream.synchronize()`.
use tidelock::{Ctx, DeviceLocation, Result};

pub fn finish<L: DeviceLocation>(ctx: Ctx<'_, L>) -> Result<()> {
    ctx.synchronize()
}

fn main() {}
