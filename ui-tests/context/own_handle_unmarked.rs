// R10: a handle of one's own that a context carries by value says so.
// Instead: `impl AllocHandle for Mine {}`, or `ctx.with_device_alloc(&mine)` with `Allocator` for `&Mine`.
use std::{alloc::Layout, ptr::NonNull};
use tidelock::{
    Ctx, Result,
    alloc::{AllocError, Allocator},
    sim::Sim,
};

#[derive(Clone, Copy)]
pub struct Mine;
unsafe impl<'s> Allocator<Sim<'s>> for Mine {
    fn alloc(&self, _: Layout) -> Result<NonNull<u8>, AllocError> {
        Err(AllocError::OutOfMemory)
    }
    unsafe fn dealloc(&self, _: NonNull<u8>, _: Layout) {}
}

pub fn step(ctx: Ctx<'_, Sim<'_>>) -> Result<usize> {
    Ok(ctx.with_device_alloc(Mine).zeros::<u32>(8)?.len())
}

fn main() {}
