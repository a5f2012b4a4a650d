// R20: the numbers of a scatter do not change between their check and the submission.
// Instead: a second `Scatter`, or set the pairs before the scope.
use tidelock::{BatchCopy, Buffer, Ctx, DeviceLocation, Error, Result, buffer::Scatter};
use std::num::NonZero;

pub fn move_blocks<L: DeviceLocation>(ctx: Ctx<'_, L>, batch: &mut BatchCopy, cache: &mut Buffer<u32, L>, scatter: &mut Scatter) -> Result<()> {
    batch.scope(&ctx, |b| {
        b.group(|g| g.scatter_within(cache.view_mut().rows(NonZero::<usize>::MIN)?, scatter))?;
        scatter.set([(0, 1_000_000)], 1, 1_000_001)?;
        Ok::<(), Error>(())
    })
}

fn main() {}
