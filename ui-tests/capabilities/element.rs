// R9: a buffer on the device is made of elements.
// Instead: an `#[repr(C)]` struct of numbers, or one buffer for each field.
use tidelock::{Ctx, DeviceLocation, Result, stream::HasAlloc};

pub fn table<L: DeviceLocation, A: HasAlloc<L>>(ctx: Ctx<'_, L, A>) -> Result<()> {
    ctx.zeros::<(u32, f32)>(8).map(drop)
}

fn main() {}
