// R9: the size of a struct is not known as a type.
// Instead: `slots.bytes()`, or `slots.try_cast()?` if it is `Pod`.
use tidelock::{DeviceLocation, Element, View};

#[derive(Clone, Copy, bytemuck::NoUninit, bytemuck::Zeroable)]
#[repr(C)]
pub struct Sampling {
    temperature: f32,
    top_k: u32,
}
impl Element for Sampling {}

pub fn words<L: DeviceLocation>(slots: View<'_, Sampling, L>) -> View<'_, u32, L> {
    slots.cast()
}

fn main() {}
