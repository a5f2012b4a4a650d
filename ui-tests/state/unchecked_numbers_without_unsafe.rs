// R20: row numbers that only the device knows are the caller's promise.
// Instead: `unsafe`, with the promise kept, or a `Permutation` of numbers that the host knows.
use tidelock::{DeviceLocation, View, state::RowNumbers};

pub fn survivors<L: DeviceLocation>(numbers: View<'_, u32, L>) -> RowNumbers<'_, L> {
    RowNumbers::unchecked(numbers, 8, 0)
}

fn main() {}
