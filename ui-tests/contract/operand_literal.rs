// R10: the operands of a batch may get further kinds, so that no literal outside of the contract leaves one out.
// Instead: `CopyBatch::new(dst, src, len, host_from)`, and its methods.
use tidelock::driver::CopyBatch;

pub fn batch<'a>(dst: &'a [*mut u8], src: &'a [*const u8], len: &'a [usize]) -> CopyBatch<'a> {
    CopyBatch { dst, src, len, host_from: 0, gathers: Default::default() }
}

fn main() {}
