// R9: an element is no whole number of elements of no bytes.
// Instead: `row.try_cast::<[u8; 0]>()?`, which accepts a view of no bytes.
use tidelock::{DeviceLocation, View};

pub fn nothing<L: DeviceLocation>(values: View<'_, f32, L>) -> View<'_, [u8; 0], L> {
    values.cast()
}

fn main() {}
