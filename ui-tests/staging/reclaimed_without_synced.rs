// R2: memory comes back from a stream that is known to rest.
// Instead: `tokens.reclaim(&stream.synchronize()?)`.
use tidelock::{Buffer, DeviceLocation, location::Pinned, stream::Staged};

pub fn take_back<L: DeviceLocation>(tokens: Buffer<u32, Staged<L>>) -> Buffer<u32, Pinned<L::Backend>> {
    tokens.reclaim()
}

fn main() {}
