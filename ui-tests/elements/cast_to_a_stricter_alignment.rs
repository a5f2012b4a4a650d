// R9: an infallible cast needs no stricter alignment than the elements have.
// Instead: allocate `Align16<[bf16; 8]>` and cast that to `[bf16; 8]`, or `rows.try_cast()?`.
use tidelock::{DeviceLocation, View, element::Align16, half::bf16};

pub fn vectors<L: DeviceLocation>(rows: View<'_, [bf16; 8], L>) -> View<'_, Align16<[bf16; 8]>, L> {
    rows.cast()
}

fn main() {}
