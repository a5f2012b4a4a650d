// R17: what is shared comes from a default allocator: `Shareable` is sealed.
// Instead: share the buffers of a struct one by one, or the struct as an `Arc`.
use tidelock::{Buffer, location::Pinned, sim::SimBackend, stream::Shareable};

pub struct Mine(pub Buffer<u32, Pinned<SimBackend>>);

impl Shareable for Mine {
    type Shared = ();
    fn into_shared(self) {}
}

fn main() {}
