// R9: a struct is an element once its layout is known and it says so.
// Instead: `#[derive(Clone, Copy, bytemuck::NoUninit, bytemuck::Zeroable)] #[repr(C)]` and `impl Element for Sampling {}`.
use tidelock::{Ctx, DeviceLocation, Result, stream::HasAlloc};

pub struct Sampling {
    pub temperature: f32,
    pub top_k: u32,
}

pub fn table<L: DeviceLocation, A: HasAlloc<L>>(ctx: Ctx<'_, L, A>) -> Result<()> {
    ctx.zeros::<Sampling>(8).map(drop)
}

fn main() {}
