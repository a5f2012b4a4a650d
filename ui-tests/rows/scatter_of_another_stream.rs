// R1: rows of one stream are not a source for a batch of another stream.
// Instead: `lend` the view to the other stream, or `transfer` the buffer.
use tidelock::{BatchCopy, Buffer, Ctx, DeviceLocation, Result, buffer::Scatter};
use std::num::NonZero;

pub fn fetch<L: DeviceLocation, M: DeviceLocation>(ctx: Ctx<'_, L>, batch: &mut BatchCopy, theirs: &Buffer<u32, M>, ours: &mut Buffer<u32, L>, scatter: &Scatter) -> Result<()> {
    let one = NonZero::<usize>::MIN;
    batch.scope(&ctx, |b| b.group(|g| g.scatter(theirs.view().rows(one)?, scatter, ours.view_mut().rows(one)?)))
}

fn main() {}
