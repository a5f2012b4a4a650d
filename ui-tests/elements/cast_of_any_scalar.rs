// R9: not every scalar is `Pod`.
// Instead: `values.bytes()`, which reads any element, or `where u8: CastFrom<T>`.
use tidelock::{DeviceLocation, Scalar, View};

pub fn bytes<T: Scalar, L: DeviceLocation>(values: View<'_, T, L>) -> View<'_, u8, L> {
    values.cast()
}

fn main() {}
