// R20: row numbers on the device pick rows that its kernels reach.
// Instead: upload the rows first, or `group.warp` with the permutation on the host.
use tidelock::{
    DeviceLocation, Result,
    batch::Group,
    buffer::{Rows, RowsMut},
    location::Host,
    state::RowNumbers,
};

pub fn repack<'env, L: DeviceLocation>(
    group: &mut Group<'_, 'env, L>,
    front: Rows<'env, u32, Host>,
    survivors: RowNumbers<'env, L>,
    back: RowsMut<'env, u32, L>,
) -> Result<()> {
    group.warp_by(front, survivors, back)
}

fn main() {}
