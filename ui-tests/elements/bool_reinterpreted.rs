// R9: memory is written as another type only if every bit pattern is a value of the first.
// Instead: keep the mask as `u8`.
use tidelock::{DeviceLocation, Result, ViewMut};

pub fn bytes<L: DeviceLocation>(mask: ViewMut<'_, bool, L>) -> Result<ViewMut<'_, u8, L>> {
    mask.try_cast::<u8>()
}

fn main() {}
