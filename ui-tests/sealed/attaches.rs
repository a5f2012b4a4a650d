// R3: what is attached has a record behind its last use: `Attaches` is sealed.
// Instead: attach the buffers of a struct one by one.
use tidelock::{
    Buffer, DeviceLocation,
    sim::SimBackend,
    stream::{Attaches, Detached, DetachedAlloc, OnBackend, StreamAlloc},
};

pub struct Mine(pub Buffer<u32, Detached<SimBackend>>);

impl Attaches<SimBackend> for Mine {
    type On<M: DeviceLocation + OnBackend<Backend = SimBackend>> = Buffer<u32, M>;
    fn base(&self) -> &DetachedAlloc<SimBackend> {
        self.0.allocator()
    }
    unsafe fn arrive<M: DeviceLocation + OnBackend<Backend = SimBackend>>(self, _: StreamAlloc<M>) -> Buffer<u32, M> {
        loop {}
    }
}

fn main() {}
