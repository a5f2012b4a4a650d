// R1: a map holds tensors of the host and of one stream.
// Instead: a map of that stream, or `transfer` the buffer first.
use tidelock::{DeviceLocation, any::{AnyTensor, TensorMap}};

pub fn add<A: DeviceLocation, B: DeviceLocation>(map: &mut TensorMap<'_, A>, tensor: AnyTensor<B>) {
    map.produce("x", tensor).unwrap();
}

fn main() {}
