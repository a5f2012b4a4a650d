// R4: what a batch copies outlives the batch, which the `'_` of a closure outside of it does not say.
// Instead: write the closure where it is passed, `b.group(|g| ..)`, or a function that names the lifetime.
use tidelock::{BatchCopy, Buffer, Ctx, DeviceLocation, Result, batch::Group};

pub fn pack<L: DeviceLocation>(
    ctx: Ctx<'_, L>,
    batch: &mut BatchCopy,
    tokens: &Buffer<u32, L>,
    target: &mut Buffer<u32, L>,
) -> Result<()> {
    let (source, target) = (tokens.view(), target.view_mut());
    let copy = |g: &mut Group<'_, '_, L>| g.copy(source, target);
    batch.scope(&ctx, |b| b.group(copy))
}

fn main() {}
