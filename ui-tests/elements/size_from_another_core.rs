// R10: `scalar!` computes the size itself, also in a crate that names another one `core`.
// Instead: a `DType` of the size that the type has.
use tidelock::{DType, Element};

extern crate self as core;

pub mod mem {
    pub const fn size_of<T>() -> usize {
        2
    }
    pub const fn align_of<T>() -> usize {
        1
    }
}
pub use std::*;

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct Odd([u8; 7]);
impl Element for Odd {}
tidelock::scalar!(Odd => DType::U16);

fn main() {}
