// R9: an element has no padding and every zeroed one is a value; `bytemuck`'s derives prove it.
// Instead: derive `bytemuck::NoUninit` and `bytemuck::Zeroable` for the `#[repr(C)]` struct.
use tidelock::Element;

#[derive(Clone, Copy)]
#[repr(C)]
pub struct Token(u32);

impl Element for Token {}

fn main() {}
