// R3: what is staged is pinned memory of the default allocator: `Stageable` is sealed for both.
// Instead: stage the buffers of a struct one by one.
use tidelock::{
    Buffer,
    location::{Host, Pinned},
    sim::{Sim, SimBackend},
    stream::Stageable,
};

pub struct Mine(pub Buffer<u32, Pinned<SimBackend>>);

// As `Self`.
impl<'s> Stageable<Sim<'s>> for Mine {}

// As the stream.
impl Stageable<Mine> for Buffer<u32, Host> {}

fn main() {}
