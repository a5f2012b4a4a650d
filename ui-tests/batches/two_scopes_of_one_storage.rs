// R5: one storage serves one scope at a time.
// Instead: a second `BatchCopy`, or one scope after the other.
use tidelock::{BatchCopy, Ctx, DeviceLocation, Result};

pub fn nested<L: DeviceLocation>(ctx: Ctx<'_, L>, mut storage: BatchCopy) -> Result<()> {
    storage.scope(&ctx, |_| {
        storage = BatchCopy::new();
        Ok(())
    })
}

fn main() {}
