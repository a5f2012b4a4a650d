// R20: ragged rows are cut by offsets that were checked.
// Instead: `blocks.ragged(Offsets::new(&starts, "starts")?)`.
use tidelock::{DeviceLocation, Result, View, buffer::Ragged};

pub fn tables<'a, L: DeviceLocation>(blocks: View<'a, u32, L>, starts: &'a [u32]) -> Result<Ragged<'a, u32, L>> {
    blocks.ragged(starts)
}

fn main() {}
