// R9: the values are looked at by the host, and device memory is not its own.
// Instead: copy the bytes to the host first: `stream.read(bytes)?`.
use tidelock::{DeviceLocation, Result, View};

pub fn flags<L: DeviceLocation>(bytes: View<'_, u8, L>) -> Result<View<'_, bool, L>> {
    bytes.checked()
}

fn main() {}
