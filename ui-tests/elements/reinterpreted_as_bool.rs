// R9: bytes are read as another type only if every bit pattern is a value of it.
// Instead: read the mask as `u8` and compare with 0; `bool` is copied as `bool`.
use tidelock::{DeviceLocation, Result, View};

pub fn mask<L: DeviceLocation>(bytes: View<'_, u8, L>) -> Result<View<'_, bool, L>> {
    bytes.try_cast::<bool>()
}

fn main() {}
