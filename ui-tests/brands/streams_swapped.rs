// R1: each stream has a brand of its own, so that two streams have two types.
// Instead: choose by an `if` which of the two to pass to a function that is generic over `L: DeviceLocation`.
use tidelock::{Result, sim};

fn main() -> Result<()> {
    let device = sim::Device::default();
    device.stream(|mut a, _| device.stream(|mut b, _| std::mem::swap(&mut a, &mut b)))?
}
