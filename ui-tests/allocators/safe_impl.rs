// R10: an allocator makes promises that safe code relies on, so implementing one is `unsafe`.
// Instead: `unsafe impl Allocator<Host> for Arena`, with a proof of every promise.
use core::{alloc::Layout, ptr::NonNull};
use tidelock::{
    alloc::{AllocError, Allocator},
    location::Host,
};

pub struct Arena;

impl Allocator<Host> for Arena {
    fn alloc(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        Ok(layout.dangling_ptr())
    }

    unsafe fn dealloc(&self, _: NonNull<u8>, _: Layout) {}
}

fn main() {}
