// R9: an element has no padding.
// Instead: make the padding a field: `unused: [u8; 3]`.
use tidelock::Element;

#[derive(Clone, Copy, bytemuck::Zeroable)]
#[repr(C)]
pub struct Sampling {
    pub temperature: f32,
    pub greedy: u8,
}

impl Element for Sampling {}

fn main() {}
