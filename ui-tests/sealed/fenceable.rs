// R8: a fence takes staged buffers by value: `Fenceable` is sealed for both.
// Instead: `ctx.fence((logits, tokens))`.
use tidelock::{
    Buffer,
    location::Host,
    sim::Sim,
    stream::{Fenceable, Staged},
};

pub struct Mine<'s>(pub Buffer<u32, Staged<Sim<'s>>>);

// As `Self`.
impl<'s> Fenceable<Sim<'s>> for Mine<'s> {
    type Host = ();
    unsafe fn unstage_all(self) {}
}

// As the stream.
impl<'s> Fenceable<Mine<'s>> for Buffer<u32, Host> {
    type Host = ();
    unsafe fn unstage_all(self) {}
}

fn main() {}
