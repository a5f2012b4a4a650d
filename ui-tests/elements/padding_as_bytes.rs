// R9: bytes are read only of elements without padding, which is never written.
// Instead: `#[repr(C)]` without padding, with `#[derive(Clone, Copy, bytemuck::NoUninit, bytemuck::Zeroable)]`.
use tidelock::{View, location::Host};

#[derive(Clone, Copy)]
#[repr(C)]
pub struct Token {
    id: u32,
    last: bool,
}

pub fn bytes(tokens: View<'_, Token, Host>) -> View<'_, u8, Host> {
    tokens.bytes()
}

fn main() {}
