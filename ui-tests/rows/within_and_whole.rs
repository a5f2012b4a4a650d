// R22: the copies of a batch have no order, so that rows that it moves are not read beside that.
// Instead: read them in an earlier or a later batch.
use tidelock::{BatchCopy, Buffer, Ctx, DeviceLocation, Result, buffer::Scatter};
use std::num::NonZero;

pub fn move_and_read<L: DeviceLocation>(ctx: Ctx<'_, L>, batch: &mut BatchCopy, cache: &mut Buffer<u32, L>, out: &mut Buffer<u32, L>, scatter: &Scatter) -> Result<()> {
    batch.scope(&ctx, |b| {
        b.group(|g| {
            g.scatter_within(cache.view_mut().rows(NonZero::<usize>::MIN)?, scatter)?;
            g.copy(cache.view(), out.view_mut())
        })
    })
}

fn main() {}
