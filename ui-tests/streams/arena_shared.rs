// R17: only memory of a default allocator is shared.
// Instead: allocate it with `ctx.with_pool()`.
use tidelock::{Buffer, DeviceLocation, Stack};

pub fn share<L: DeviceLocation>(buffer: Buffer<u32, L, &Stack<L>>) {
    let _shared = buffer.share();
}

fn main() {}
