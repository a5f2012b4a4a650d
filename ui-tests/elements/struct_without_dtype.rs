// R9: what has a `DType` is a scalar.
// Instead: a buffer of the struct for each field, or `tidelock::scalar!` for a type that wraps a scalar.
use tidelock::{DType, Element, Scalar};

#[derive(Clone, Copy, bytemuck::NoUninit, bytemuck::Zeroable)]
#[repr(C)]
pub struct Sampling {
    temperature: f32,
    top_k: u32,
}
impl Element for Sampling {}

fn name<T: Scalar>() -> DType {
    T::DTYPE
}

fn main() {
    name::<Sampling>();
}
