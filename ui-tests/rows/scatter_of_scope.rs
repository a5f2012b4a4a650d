// R20: the numbers of a scatter are read when the scope has ended, so that they outlive it.
// Instead: declare the `Scatter` before the scope, and keep it for the next one: it keeps its storage.
use tidelock::{BatchCopy, Buffer, Ctx, DeviceLocation, Result, buffer::Scatter};
use std::num::NonZero;

pub fn move_blocks<L: DeviceLocation>(ctx: Ctx<'_, L>, batch: &mut BatchCopy, cache: &mut Buffer<u32, L>) -> Result<()> {
    batch.scope(&ctx, |b| {
        let mut scatter = Scatter::new();
        scatter.set([(0, 1)], 2, 2)?;
        b.group(|g| g.scatter_within(cache.view_mut().rows(NonZero::<usize>::MIN)?, &scatter))
    })
}

fn main() {}
