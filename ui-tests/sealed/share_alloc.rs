// R17: what is shared comes from a default allocator: `ShareAlloc` is sealed.
// Instead: `Shared::from_raw(.., owner)`, with the buffer as the owner of its memory.
use core::{alloc::Layout, ptr::NonNull};
use tidelock::{alloc::Allocator, driver::AllocError, location::Pinned, sim::SimBackend, stream::ShareAlloc};

pub struct Mine;

// SAFETY: it allocates nothing.
unsafe impl Allocator<Pinned<SimBackend>> for Mine {
    fn alloc(&self, _: Layout) -> Result<NonNull<u8>, AllocError> {
        Err(AllocError::OutOfMemory)
    }
    unsafe fn dealloc(&self, _: NonNull<u8>, _: Layout) {}
}

impl ShareAlloc<Pinned<SimBackend>> for Mine {}

fn main() {}
