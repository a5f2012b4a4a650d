// R9: a source does not change through shared references while it is copied.
// Instead: copy out of the cells first: `counts.iter().map(Cell::get).collect::<Vec<_>>()`.
use std::cell::Cell;
use tidelock::{Ctx, DeviceLocation, Result, ViewMut};

pub fn send<L: DeviceLocation>(ctx: Ctx<'_, L>, counts: &[Cell<u32>], target: ViewMut<'_, Cell<u32>, L>) -> Result<()> {
    ctx.upload(counts, target)
}

fn main() {}
