// R7: an arena's memory is reused in the order of its own stream.
// Instead: make a stack over `b.pool()`.
use tidelock::{Ctx, DeviceLocation, Result, Stack};

pub fn scratch<A: DeviceLocation, B: DeviceLocation>(stack: &Stack<A>, b: Ctx<'_, B>) -> Result<()> {
    b.with_device_alloc(stack).device::<f32>(8).map(drop)
}

fn main() {}
