// R9: an infallible cast has no rest: the sizes of both types divide.
// Instead: `row.try_cast::<[u8; 255]>()?`, or rows of a size that divides.
use tidelock::{DeviceLocation, View, half::bf16};

pub fn bytes<L: DeviceLocation>(rows: View<'_, [bf16; 128], L>) -> View<'_, [u8; 255], L> {
    rows.cast()
}

fn main() {}
