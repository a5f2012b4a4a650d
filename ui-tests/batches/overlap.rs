// R22: the copies of a batch are unordered, so that a source does not overlap a destination.
// Instead: copy through a second buffer, or cut one exclusive view: `let (head, tail) = x.view_mut().split_at(4)?`.
use tidelock::{BatchCopy, Buffer, Ctx, DeviceLocation, Result};

pub fn shift<L: DeviceLocation>(ctx: Ctx<'_, L>, batch: &mut BatchCopy, x: &mut Buffer<u32, L>) -> Result<()> {
    batch.scope(&ctx, |b| {
        b.copy(x.view().slice(..4)?, x.view_mut().slice(4..8)?)?;
        Ok(())
    })
}

fn main() {}
