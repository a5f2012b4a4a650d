// R4: a batch writes what the stream's kernels may write, never plain host memory.
// Instead: copy into staged memory, and `peek` at it when the stream is synchronised.
use tidelock::{BatchCopy, Ctx, DeviceLocation, Result, View, ViewMut};

pub fn fetch<L: DeviceLocation>(
    ctx: Ctx<'_, L>,
    batch: &mut BatchCopy,
    device: View<'_, u32, L>,
    tokens: &mut [u32],
) -> Result<()> {
    batch.scope(&ctx, |b| b.copy(device, ViewMut::from(&mut tokens[..])))
}

fn main() {}
