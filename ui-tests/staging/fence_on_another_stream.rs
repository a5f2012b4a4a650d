// R8: the stream that uses the memory records the event.
// Instead: fence on a context of stream `A`.
use tidelock::{Buffer, Ctx, DeviceLocation, stream::Staged};

pub fn fetch<A: DeviceLocation, B: DeviceLocation>(b: Ctx<'_, B>, tokens: Buffer<u32, Staged<A>>) {
    let _pending = b.fence(tokens);
}

fn main() {}
