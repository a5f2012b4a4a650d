// R9: `dispatch!` compares names, so that each type has one.
// Instead: scalars, or `tidelock::scalar!` for a type of your own.
use tidelock::{DType, Result};

#[derive(Clone, Copy)]
pub struct Pair(f32, f32);

pub fn size(dtype: DType) -> Result<usize> {
    tidelock::dispatch!(dtype, T in [f32, Pair] => size_of::<T>())
}

fn main() {}
