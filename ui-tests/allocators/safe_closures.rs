// R10: an allocator from closures is `unsafe` to build, as closures may lie.
// Instead: `unsafe { ClosureAlloc::new(alloc, dealloc) }`, with a proof of every promise of `Allocator`.
use core::{alloc::Layout, ptr::NonNull};
use tidelock::{
    alloc::{AllocError, ClosureAlloc},
    location::Host,
};

fn main() {
    let _nothing = ClosureAlloc::<Host, _, _>::new(
        |_: Layout| Err(AllocError::OutOfMemory),
        |_: NonNull<u8>, _: Layout| (),
    );
}
