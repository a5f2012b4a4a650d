// R7: an arena aligns to 16, 32, 64, 128 or 256 bytes.
// Instead: `AlignTo<64>`.
use tidelock::{DeviceLocation, Stack, alloc::AlignTo, stream::StreamAlloc};

pub fn reset<L: DeviceLocation>(_stack: &Stack<L, StreamAlloc<L>, AlignTo<48>>) {}

fn main() {}
