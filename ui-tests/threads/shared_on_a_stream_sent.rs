// R2: an owner on a stream stays on the stream's thread.
// Instead: `to_another_thread(ctx.detach(x.clone())?)`; the other thread attaches it to a stream of its own.
use tidelock::{DeviceLocation, stream::Shared};

fn to_another_thread<T: Send>(_: T) {}

pub fn send<L: DeviceLocation>(x: Shared<u32, L>) {
    to_another_thread(x);
}

fn main() {}
