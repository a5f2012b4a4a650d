// R1: row numbers on the device belong to the stream that uploaded them.
// Instead: upload the permutation on the stream whose rows change places.
use tidelock::{
    DeviceLocation, Result,
    batch::Group,
    buffer::{Rows, RowsMut},
    state::DevicePermutation,
};

pub fn repack<'env, A: DeviceLocation, B: DeviceLocation>(
    group: &mut Group<'_, 'env, A>,
    front: Rows<'env, u32, A>,
    survivors: &'env DevicePermutation<'env, B>,
    back: RowsMut<'env, u32, A>,
) -> Result<()> {
    group.warp_by(front, survivors.numbers(), back)
}

fn main() {}
