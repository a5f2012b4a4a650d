// R7: an arena aligns as its type says, to a power of two that allocators give: `Alignment` is sealed.
// Instead: `AlignTo<64>`.
use tidelock::alloc::Alignment;

pub struct Odd;

impl Alignment for Odd {
    const BYTES: usize = 3;
}

fn main() {}
