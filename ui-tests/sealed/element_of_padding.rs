// R9: anyone may implement `Element`, and gets no further than the unsafe traits below it.
// Instead: make the padding a field, and derive `bytemuck::NoUninit` and `bytemuck::Zeroable`.
use tidelock::Element;

#[derive(Clone, Copy)]
pub struct Padded(pub u8, pub u32);

impl Element for Padded {}

fn main() {}
