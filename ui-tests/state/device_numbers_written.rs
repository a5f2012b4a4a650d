// R20: row numbers that were checked stay as they are, on the device too.
// Instead: check and upload another permutation.
use tidelock::{Ctx, DeviceLocation, Result, state::DevicePermutation};

pub fn renumber<L: DeviceLocation>(ctx: &Ctx<'_, L>, survivors: &mut DevicePermutation<'_, L>) -> Result<()> {
    ctx.upload(&[9], survivors.numbers().as_view())
}

fn main() {}
