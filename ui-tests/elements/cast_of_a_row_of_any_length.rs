// R9: generic code does not decide whether the sizes divide.
// Instead: `where [u8; 16]: CastFrom<[f16; N]>`, which the caller proves, or `rows.try_cast()?`.
use tidelock::{DeviceLocation, View, half::f16};

pub fn vectors<L: DeviceLocation, const N: usize>(rows: View<'_, [f16; N], L>) -> View<'_, [u8; 16], L> {
    rows.cast()
}

fn main() {}
