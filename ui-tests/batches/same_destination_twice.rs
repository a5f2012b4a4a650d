// R22: the copies of a batch are unordered, so that a destination is written once.
// Instead: two scopes, which run one after the other.
use tidelock::{BatchCopy, Buffer, Ctx, DeviceLocation, Result, View};

pub fn write<L: DeviceLocation>(
    ctx: Ctx<'_, L>,
    batch: &mut BatchCopy,
    (first, second): (View<'_, u32, L>, View<'_, u32, L>),
    target: &mut Buffer<u32, L>,
) -> Result<()> {
    batch.scope(&ctx, |b| {
        b.copy(first, target.view_mut())?;
        b.copy(second, target.view_mut())
    })
}

fn main() {}
