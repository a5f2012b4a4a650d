// R9: what is written through a cast is a value of the first type.
// Instead: keep the mask as `u8`.
use tidelock::{DeviceLocation, ViewMut};

pub fn bytes<L: DeviceLocation>(mask: ViewMut<'_, [bool; 8], L>) -> ViewMut<'_, u8, L> {
    mask.cast()
}

fn main() {}
