// R4: what a batch copies stays until the batch is submitted.
// Instead: drop `source` behind the scope.
use tidelock::{BatchCopy, Buffer, Ctx, DeviceLocation, Result, ViewMut};

pub fn write<L: DeviceLocation>(
    ctx: Ctx<'_, L>,
    batch: &mut BatchCopy,
    source: Buffer<u32, L>,
    target: ViewMut<'_, u32, L>,
) -> Result<()> {
    batch.scope(&ctx, |b| {
        b.copy(source.view(), target)?;
        drop(source);
        Ok(())
    })
}

fn main() {}
