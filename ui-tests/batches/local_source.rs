// R4: what a batch copies outlives its scope, at whose end it is submitted.
// Instead: allocate `mask` before the scope.
use tidelock::{BatchCopy, Ctx, DeviceLocation, Result, ViewMut, stream::HasAlloc};

pub fn write<L: DeviceLocation, A: HasAlloc<L>>(
    ctx: Ctx<'_, L, A>,
    batch: &mut BatchCopy,
    target: ViewMut<'_, u32, L>,
) -> Result<()> {
    batch.scope(&ctx, |b| {
        let mask = ctx.zeros::<u32>(8)?;
        b.copy(mask.view(), target)
    })
}

fn main() {}
