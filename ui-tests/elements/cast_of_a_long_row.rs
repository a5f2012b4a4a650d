// R9: the size of a row of more than 1024 elements is not known as a type.
// Instead: the row as an array of arrays, `[[f16; 1024]; 7]`, or `rows.try_cast()?`.
use tidelock::{DeviceLocation, View, half::f16};

pub fn vectors<L: DeviceLocation>(rows: View<'_, [f16; 7168], L>) -> View<'_, [f16; 8], L> {
    rows.cast()
}

fn main() {}
