// R9: which bytes are a value is said by `bytemuck::CheckedBitPattern`.
// Instead: derive it beside `NoUninit` and `Zeroable`.
use tidelock::{Element, Result, View, location::Host};

#[derive(Clone, Copy, bytemuck::NoUninit, bytemuck::Zeroable)]
#[repr(u8)]
pub enum Phase {
    Prefill,
    Decode,
}
impl Element for Phase {}

pub fn phases(bytes: View<'_, u8, Host>) -> Result<View<'_, Phase, Host>> {
    bytes.checked()
}

fn main() {}
