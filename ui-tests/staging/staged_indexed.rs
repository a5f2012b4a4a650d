// R3: the host does not look at staged memory while the stream may touch it.
// Instead: `tokens.peek(&stream.synchronize()?)[0]`.
use tidelock::{Buffer, DeviceLocation, stream::Staged};

pub fn first<L: DeviceLocation>(tokens: &Buffer<u32, Staged<L>>) -> u32 {
    tokens[0]
}

fn main() {}
