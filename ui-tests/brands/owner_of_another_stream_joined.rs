// R1: owners join on one stream.
// Instead: `x.join(b.transfer(theirs, &a)?)`.
use tidelock::{DeviceLocation, stream::Shared};

pub fn join<A: DeviceLocation, B: DeviceLocation>(x: &mut Shared<u32, A>, theirs: Shared<u32, B>) {
    let _ = x.join(theirs);
}

fn main() {}
