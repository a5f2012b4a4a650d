// R3: whoever implements `CrossAlloc` or `AttachAlloc` promises that the memory is freed in stream order: they are unsafe to implement.
// Instead: an adaptor around `StreamAlloc` says `unsafe impl`, and keeps the list of promises.
use tidelock::{
    DeviceLocation,
    sim::{Sim, SimBackend},
    stream::{AttachAlloc, CrossAlloc, DetachedAlloc, OnBackend, StreamAlloc},
};

pub struct Mine<A>(pub A);

impl<'s> CrossAlloc<Sim<'s>> for Mine<StreamAlloc<Sim<'s>>> {
    type Detached = Mine<DetachedAlloc<SimBackend>>;
    fn detach(self, base: DetachedAlloc<SimBackend>) -> Self::Detached {
        Mine(base)
    }
}

impl AttachAlloc<SimBackend> for Mine<DetachedAlloc<SimBackend>> {
    type On<M: DeviceLocation + OnBackend<Backend = SimBackend>> = StreamAlloc<M>;
    fn base(&self) -> &DetachedAlloc<SimBackend> {
        &self.0
    }
    fn attach<M: DeviceLocation + OnBackend<Backend = SimBackend>>(self, base: StreamAlloc<M>) -> StreamAlloc<M> {
        base
    }
}

fn main() {}
