// R9: not every byte is a `bool`, so that an exclusive view of `bool` has no bytes to write.
// Instead: read them with `mask.as_view().bytes()`, or keep the mask as `u8`.
use tidelock::{DeviceLocation, ViewMut};

pub fn bytes<L: DeviceLocation>(mask: ViewMut<'_, bool, L>) -> ViewMut<'_, u8, L> {
    mask.bytes()
}

fn main() {}
