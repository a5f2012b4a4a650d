// R17: the free function follows from the allocator's type, and the compiler knows both.
// Instead: give the memory back where it came from; `Buffer<f32, L, &Stack<L>>` says where.
use tidelock::{Buffer, DeviceLocation, Stack};

pub struct Cache<L: DeviceLocation> {
    pub block: Buffer<f32, L>,
}

pub fn fill<L: DeviceLocation>(cache: &mut Cache<L>, block: Buffer<f32, L, &Stack<L>>) {
    cache.block = block;
}

fn main() {}
