// R10: a context allocates from an `Allocator`, which is unsafe to implement: `HasAlloc` is sealed.
// Instead: `unsafe impl Allocator<L> for &Mine`, and `ctx.with_device_alloc(&mine)`.
use tidelock::{
    alloc::HostAlloc,
    sim::Sim,
    stream::{HasAlloc, StreamAlloc},
};

#[derive(Clone, Copy)]
pub struct Mine;

// As `Self`: the context would allocate from an allocator of the author's choice.
impl<'s> HasAlloc<Sim<'s>> for Mine {
    type Alloc = StreamAlloc<Sim<'s>>;
    fn handle(self) -> Self::Alloc {
        unreachable!()
    }
}

// As the location.
impl HasAlloc<Mine> for HostAlloc {
    type Alloc = HostAlloc;
    fn handle(self) -> HostAlloc {
        HostAlloc
    }
}

fn main() {}
