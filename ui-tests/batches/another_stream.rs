// R1: a batch copies memory of its own stream.
// Instead: open the scope on a context of stream `A`.
use tidelock::{BatchCopy, Ctx, DeviceLocation, Result, View, ViewMut};

pub fn write<A: DeviceLocation, B: DeviceLocation>(
    b: Ctx<'_, B>,
    batch: &mut BatchCopy,
    source: View<'_, u32, B>,
    target: ViewMut<'_, u32, A>,
) -> Result<()> {
    batch.scope(&b, |batch| batch.copy(source, target))
}

fn main() {}
