// R9: the arguments of a kernel are a tuple: `Args` is sealed.
// Instead: `ctx.launch((x.view_mut(), factor), ..)`.
use tidelock::{DeviceLocation, driver::Out, stream::Args};

pub struct Params;

impl<L: DeviceLocation> Args<L> for Params {
    type Raw = (Out<u64>,);
    type Receipts = ();
    fn into_raw(self) -> (Out<u64>,) {
        (Out(std::ptr::dangling_mut(), 1 << 40),)
    }
    fn receipts(&self) {}
    fn settle(_: ()) {}
}

fn main() {}
