// R10: host and pinned memory come from the library's own allocators, whatever the context: `HasAlloc` is not re-targeted.
// Instead: `Buffer::uninit_in(len, alloc)` with an allocator of your own.
use tidelock::{alloc::HostAlloc, location::Host, stream::HasAlloc};

#[derive(Clone, Copy)]
pub struct Mine;

impl HasAlloc<Host> for Mine {
    type Alloc = HostAlloc;
    fn handle(self) -> HostAlloc {
        HostAlloc
    }
}

fn main() {}
