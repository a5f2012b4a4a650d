// R1: `Location` is sealed.
// Instead: foreign host memory is `Buffer::from_owner(mapping)`.
use tidelock::{alloc::ClosureAlloc, location::Location};

pub struct Disk;

impl Location for Disk {
    type DefaultAlloc = &'static ClosureAlloc<Disk, Alloc, Free>;
    const NAME: &'static str = "disk";
}

type Alloc = fn(std::alloc::Layout) -> Result<std::ptr::NonNull<u8>, tidelock::alloc::AllocError>;
type Free = fn(std::ptr::NonNull<u8>, std::alloc::Layout);

fn main() {}
