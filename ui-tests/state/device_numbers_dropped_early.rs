// R1: what a batch reads outlives its scope, row numbers on the device too.
// Instead: upload the permutation before the scope, and keep it until the scope has ended.
use tidelock::{
    BatchCopy, Ctx, DeviceLocation, Permutation, Result,
    buffer::{Rows, RowsMut},
    state::DevicePermutation,
    stream::HasAlloc,
};

pub fn repack<'env, L: DeviceLocation, A: HasAlloc<L> + Copy>(
    ctx: &Ctx<'_, L, A>,
    front: Rows<'env, u32, L>,
    survivors: Permutation<'env>,
    back: RowsMut<'env, u32, L>,
) -> Result<()> {
    BatchCopy::new().scope(ctx, |batch| {
        let survivors = DevicePermutation::upload(ctx, survivors)?;
        batch.group(|group| group.warp_by(front, survivors.numbers(), back))
    })
}

fn main() {}
