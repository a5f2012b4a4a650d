// R9: the arguments of a simulated kernel are a tuple: `sim::Args` is sealed.
// Instead: `ctx.launch((x.view_mut(), factor), ..)`.
use tidelock::{
    Code,
    sim::{Args, engine::Memory},
};

pub struct Params;

impl<'s> Args<'s> for Params {
    type Sent = ();
    type Seen<'k> = &'k mut [u64];
    fn send(self) {}
    unsafe fn see<'k>(_: &(), _: &'k Memory) -> Result<&'k mut [u64], Code> {
        Ok(&mut [])
    }
}

fn main() {}
