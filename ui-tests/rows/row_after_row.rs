// R22: rows that are written are distinct, and one call at a time does not see the others.
// Instead: `let [a, b] = rows.get_disjoint([3, 1])?`, or `rows.targets(&scatter)?` for many.
use tidelock::{DeviceLocation, Result, ViewMut, buffer::RowsMut};

pub fn two<'a, L: DeviceLocation>(rows: RowsMut<'a, u32, L>) -> Result<[ViewMut<'a, u32, L>; 2]> {
    Ok([rows.row(3)?, rows.row(1)?])
}

fn main() {}
