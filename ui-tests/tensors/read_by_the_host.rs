// R2: the host does not read memory of a device.
// Instead: copy it to the host first: `stream.read(view)?`.
use tidelock::{DeviceLocation, Result, TensorView};

pub fn first<L: DeviceLocation>(tensor: TensorView<'_, f32, L, 2>) -> Result<f32> {
    tensor.get([0, 0]).copied()
}

fn main() {}
