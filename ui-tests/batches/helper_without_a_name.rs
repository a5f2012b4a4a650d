// R4: what a batch copies outlives the batch, and a helper says so with one lifetime.
// Instead: `fn pack<'e, L: DeviceLocation>(g: &mut Group<'_, 'e, L>, source: View<'e, u32, L>, target: ViewMut<'e, u32, L>)`.
use tidelock::{DeviceLocation, Result, View, ViewMut, batch::Group};

pub fn pack<L: DeviceLocation>(
    g: &mut Group<'_, '_, L>,
    source: View<'_, u32, L>,
    target: ViewMut<'_, u32, L>,
) -> Result<()> {
    g.copy(source, target)
}

fn main() {}
