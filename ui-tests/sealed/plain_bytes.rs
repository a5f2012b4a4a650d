// R9: that a type is plain bytes is said by `bytemuck`, whose traits are unsafe to implement: `PlainBytes` is sealed.
// Instead: `#[derive(Clone, Copy, bytemuck::NoUninit, bytemuck::Zeroable)] #[repr(C)]`.
use tidelock::PlainBytes;

#[derive(Clone, Copy)]
pub struct Padded(pub u8, pub u32);

impl PlainBytes for Padded {}

fn main() {}
