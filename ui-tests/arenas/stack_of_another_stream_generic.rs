// R7: an arena's memory is reused in the order of its own stream.
// Instead: make a stack over `b.pool()`.
use tidelock::{Ctx, DeviceLocation, Stack};

pub fn scratch<A: DeviceLocation, B: DeviceLocation>(stack: &Stack<A>, b: Ctx<'_, B>) {
    let _ctx = b.with_device_alloc(stack);
}

fn main() {}
