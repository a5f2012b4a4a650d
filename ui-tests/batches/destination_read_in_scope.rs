// R4: a batch is submitted at the end of its scope; before that its destinations hold nothing.
// Instead: enqueue what reads `target` behind the scope.
use tidelock::{BatchCopy, Buffer, Ctx, DeviceLocation, Result, View, ViewMut};

pub fn write<L: DeviceLocation>(
    ctx: Ctx<'_, L>,
    batch: &mut BatchCopy,
    source: View<'_, u32, L>,
    target: &mut Buffer<u32, L>,
    other: ViewMut<'_, u32, L>,
) -> Result<()> {
    batch.scope(&ctx, |b| {
        b.copy(source, target.view_mut())?;
        ctx.copy(target.view(), other)
    })
}

fn main() {}
