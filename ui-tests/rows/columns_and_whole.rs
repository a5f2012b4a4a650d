// R22: the halves of rows are exclusive, so that the whole is not used beside them.
// Instead: `right.into_rows()` is the half to read; use the whole when both halves are done.
use tidelock::{Buffer, Ctx, DeviceLocation, Result};
use std::num::NonZero;

pub fn clear<L: DeviceLocation>(ctx: Ctx<'_, L>, mix: &mut Buffer<u32, L>, width: NonZero<usize>) -> Result<()> {
    let (gate, up) = mix.view_mut().rows(width)?.split_columns(1)?;
    ctx.clear(mix.view_mut())?;
    for row in gate.into_iter().chain(up) {
        ctx.clear(row)?;
    }
    Ok(())
}

fn main() {}
