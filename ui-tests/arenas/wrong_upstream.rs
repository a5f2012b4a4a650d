// R10: an arena of device memory stands on an allocator of device memory.
// Instead: `Stack::new(ctx.pool())`.
use tidelock::{DeviceLocation, Stack, alloc::HostAlloc};

pub struct Engine<L: DeviceLocation> {
    pub stack: Stack<L, HostAlloc>,
}

fn main() {}
