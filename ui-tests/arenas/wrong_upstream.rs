// R10: an arena of device memory stands on an allocator of device memory.
// Instead: `Stack::new(ctx.pool())`.
use tidelock::{DeviceLocation, HostAlloc, Stack};

pub fn arena<L: DeviceLocation>() -> Stack<L, HostAlloc> {
    Stack::new(HostAlloc)
}

fn main() {}
