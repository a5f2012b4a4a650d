// R17: the host does not dereference device memory.
// Instead: `ctx.upload(&values, logits)`.
use tidelock::{DeviceLocation, ViewMut};

pub fn fill<L: DeviceLocation>(logits: ViewMut<'_, f32, L>) {
    logits.into_slice().fill(1.0);
}

fn main() {}
