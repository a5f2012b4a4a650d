// R10: host memory of a context comes from an `Allocator`, which is unsafe to implement: `HasAlloc` is not re-targeted.
// Instead: `ctx.with_host_alloc(&arena)`, or `Buffer::uninit_in(len, alloc)` with an allocator of your own.
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
