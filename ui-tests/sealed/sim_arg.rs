// R9: a simulated kernel sees views of its stream and elements: `sim::Arg` is sealed.
// Instead: `impl Element for Params {}`, and pass it by value.
use tidelock::{
    Code,
    sim::{Arg, engine::Memory},
};

pub struct Params;

impl<'s> Arg<'s> for Params {
    type Sent = ();
    type Seen<'k> = &'k mut [u64];
    fn send(self) {}
    unsafe fn see<'k>(_: &(), _: &'k Memory) -> Result<&'k mut [u64], Code> {
        Ok(&mut [])
    }
}

fn main() {}
