// R9: an element has no padding.
// Instead: as many elements as fill 16 bytes: `Align16<[bf16; 8]>`.
use tidelock::{Buffer, Result, element::Align16, half::bf16, location::Host};

pub fn bytes() -> Result<usize> {
    Ok(Buffer::<Align16<[bf16; 7]>, Host>::zeros(4)?.view().bytes().len())
}

fn main() {}
