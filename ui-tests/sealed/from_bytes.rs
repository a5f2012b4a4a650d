// R10: `FromBytes` is sealed: which bytes are a value is said by `bytemuck`, whose traits are unsafe to implement.
// Instead: derive `bytemuck::CheckedBitPattern`.
use tidelock::{Element, element::FromBytes};

#[derive(Clone, Copy, bytemuck::NoUninit, bytemuck::Zeroable)]
#[repr(u8)]
pub enum Phase {
    Prefill,
    Decode,
}
impl Element for Phase {}
impl FromBytes for Phase {}

fn main() {}
