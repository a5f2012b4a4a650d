// R3: the host does not look at staged memory while the stream may touch it.
// Instead: `tokens.peek(&done)` with `let done = stream.synchronize()?`.
use tidelock::{Buffer, DeviceLocation, stream::Staged};

pub fn sum<L: DeviceLocation>(tokens: &Buffer<u32, Staged<L>>) -> u32 {
    tokens.view().as_slice().iter().sum()
}

fn main() {}
