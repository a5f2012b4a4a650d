// R1: a table points to memory of its own stream.
// Instead: make the table on a context of stream `A`.
use std::num::NonZero;
use tidelock::{Buffer, Ctx, DeviceLocation, Result};

pub fn read<A: DeviceLocation, B: DeviceLocation>(b: Ctx<'_, B>, pool: &Buffer<u8, A>) -> Result<()> {
    b.with_pool().table(pool.view().chunks_exact(NonZero::<usize>::MIN)).map(drop)
}

fn main() {}
