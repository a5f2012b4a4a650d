// R5: a batch is tied to its scope; two nested scopes cannot trade their copies.
// Instead: add each copy to the batch it belongs to.
use tidelock::{BatchCopy, Ctx, DeviceLocation, Result};

pub fn trade<L: DeviceLocation>(ctx: Ctx<'_, L>, outer: &mut BatchCopy, inner: &mut BatchCopy) -> Result<()> {
    outer.scope(&ctx, |a| {
        inner.scope(&ctx, |b| {
            std::mem::swap(a, b);
            Ok(())
        })
    })
}

fn main() {}
