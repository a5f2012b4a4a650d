// R3: memory leaves a stream behind a record of that stream: `Crosses` is sealed for both.
// Instead: let the buffers of a struct cross one by one; together they cost one record and one wait.
use tidelock::{
    Buffer,
    location::Host,
    sim::Sim,
    stream::{Crosses, Detached, DetachedAlloc},
};

pub struct Mine<'s>(pub Buffer<u32, Sim<'s>>);

// As `Self`.
impl<'s> Crosses<Sim<'s>> for Mine<'s> {
    type Detached = Buffer<u32, Detached<tidelock::sim::SimBackend>>;
    unsafe fn leave(self, _: DetachedAlloc<tidelock::sim::SimBackend>) -> Self::Detached {
        loop {}
    }
}

// As the stream.
impl<'s> Crosses<Mine<'s>> for Buffer<u32, Host> {
    type Detached = Buffer<u32, Detached<tidelock::sim::SimBackend>>;
    unsafe fn leave(self, _: DetachedAlloc<tidelock::sim::SimBackend>) -> Self::Detached {
        loop {}
    }
}

fn main() {}
