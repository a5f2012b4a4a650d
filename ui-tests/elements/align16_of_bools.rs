// R9: `Align16` holds elements of which every bit pattern is a value.
// Instead: `Align16<[u8; 16]>`, or a buffer of `[bool; 16]`.
use tidelock::{Buffer, Result, element::Align16, location::Host};

pub fn masks() -> Result<Buffer<Align16<[bool; 16]>, Host>> {
    Buffer::zeros(4)
}

fn main() {}
