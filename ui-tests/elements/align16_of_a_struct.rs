// R9: the size of what fills whole 16 bytes is known as a type.
// Instead: `#[repr(C, align(16))]` on the struct, which derives `NoUninit` and has no padding.
use tidelock::{Buffer, Element, Result, element::Align16, location::Host};

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Quad {
    values: [f32; 4],
}
impl Element for Quad {}

pub fn quads() -> Result<Buffer<Align16<Quad>, Host>> {
    Buffer::zeros(4)
}

fn main() {}
