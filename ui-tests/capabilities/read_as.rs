// R9: bytes are looked at as another type if every bit pattern is a value of both.
// Instead: `half::f16`, or any other `bytemuck::Pod` type.
use std::num::NonZero;
use tidelock::{DeviceLocation, Result, View};

pub fn ids<L: DeviceLocation>(bytes: View<'_, u8, L>) -> Result<View<'_, NonZero<u32>, L>> {
    bytes.try_cast::<NonZero<u32>>()
}

fn main() {}
