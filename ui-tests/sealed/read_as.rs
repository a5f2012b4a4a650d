// R9: memory is reinterpreted where every bit pattern is a value of both types: `ReadAs` is sealed for both.
// Instead: derive `bytemuck::Pod` for a struct that may be read from any bytes.
use tidelock::buffer::ReadAs;

pub struct Handle(std::num::NonZero<u64>);

// As `Self`.
impl ReadAs<u64> for Handle {}

// As the type that is read.
impl ReadAs<Handle> for u64 {}

fn main() {}
