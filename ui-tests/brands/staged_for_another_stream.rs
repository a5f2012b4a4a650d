// R1: memory staged for one stream is that stream's until it is reclaimed.
// Instead: `reclaim` it from stream `A`, then `stage` it for `B`.
use tidelock::{Buffer, Ctx, DeviceLocation, Result, ViewMut, stream::Staged};

pub fn forward<A: DeviceLocation, B: DeviceLocation>(
    tokens: Buffer<u32, Staged<A>>,
    target: ViewMut<'_, u32, B>,
    b: Ctx<'_, B>,
) -> Result<()> {
    b.copy(tokens.view(), target)
}

fn main() {}
