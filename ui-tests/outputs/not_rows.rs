// R20: a Warp writes rows, whose number and width it compares.
// Instead: `out.rows(width)?`.
use std::num::NonZero;
use tidelock::{BatchCopy, Ctx, DeviceLocation, Permutation, Result, buffer::Rows, stream::StreamAlloc};

pub fn warp<'a, L: DeviceLocation>(
    ctx: Ctx<'_, L, StreamAlloc<L>>,
    rows: Rows<'a, u32, L>,
    stays: Permutation<'a>,
) -> Result<()> {
    let _width = NonZero::<usize>::MIN;
    let (_next, ()) = ctx.init_with(ctx.alloc::<u32>(4)?, |out| {
        BatchCopy::new().scope(&ctx, |batch| batch.group(|group| group.warp(rows, stays, out)))
    })?;
    Ok(())
}

fn main() {}
