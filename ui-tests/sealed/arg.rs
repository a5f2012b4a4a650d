// R9: a kernel gets views of its stream and elements: `Arg` is sealed.
// Instead: `impl Element for Params {}`, and pass it by value.
use tidelock::{DeviceLocation, driver::Out, stream::Arg};

pub struct Params;

impl<L: DeviceLocation> Arg<L> for Params {
    type Raw = Out<u64>;
    type Receipt = ();
    fn receipt(&self) {}
    fn settle((): ()) {}
    fn into_raw(self) -> Out<u64> {
        Out(std::ptr::dangling_mut(), 1 << 40)
    }
}

fn main() {}
