// R20: rows are moved by a permutation that was checked.
// Instead: `Permutation::new(&survivors, front.row_count(), 0)?`.
use tidelock::{
    DeviceLocation, Result,
    batch::Group,
    buffer::{Rows, RowsMut},
};

pub fn compact<'env, L: DeviceLocation>(
    group: &mut Group<'_, 'env, L>,
    front: Rows<'env, u32, L>,
    survivors: &[u32],
    back: RowsMut<'env, u32, L>,
) -> Result<()> {
    group.warp(front, survivors, back)
}

fn main() {}
