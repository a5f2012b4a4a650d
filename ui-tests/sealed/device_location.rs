// R1: device memory is branded by the stream that the library opened: `DeviceLocation` is sealed.
// Instead: `device.stream(|stream, env| ..)` gives the stream and its location.
use tidelock::{DeviceLocation, sim::Sim};

pub struct Mine;

impl DeviceLocation for Mine {
    type Handle = <Sim<'static> as DeviceLocation>::Handle;
}

fn main() {}
