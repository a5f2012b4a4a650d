// R9: a scalar is an element.
// Instead: `impl tidelock::Element for Fnuz {}` too.
use tidelock::DType;

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct Fnuz(u8);
tidelock::scalar!(Fnuz => DType::F8E4M3);

fn main() {}
