// R9: two streams are of one backend, and generic code says so.
// Instead: `B: DeviceLocation + OnBackend<Backend = A::Backend>`.
use tidelock::{Ctx, DeviceLocation, Result, ViewMut};

pub fn clear<A: DeviceLocation, B: DeviceLocation>(
    a: &Ctx<'_, A>,
    cache: ViewMut<'_, f32, A>,
    b: &Ctx<'_, B>,
) -> Result<()> {
    a.lend_mut(cache, b, |cache| b.clear(cache))?
}

fn main() {}
