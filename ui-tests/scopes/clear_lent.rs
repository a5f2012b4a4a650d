// R9: a fill is the device's, and lent host memory takes part in plain copies only.
// Instead: fill the slice on the host before it is lent.
use tidelock::{DeviceLocation, Result, Stream};

pub fn wipe<L: DeviceLocation>(stream: &mut Stream<L>, out: &mut [u32]) -> Result<()> {
    stream.host_scope(|scope| scope.ctx().clear(scope.target(out)))?
}

fn main() {}
