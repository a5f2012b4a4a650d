// R2: an owner on a stream stays on the stream's thread.
// Instead: `ctx.detach(x.clone())?` is `Send`; the other thread attaches it to a stream of its own.
use tidelock::{DeviceLocation, stream::Shared};

pub fn send<L: DeviceLocation>(x: Shared<u32, L>) {
    std::thread::scope(|scope| {
        scope.spawn(move || drop(x));
    });
}

fn main() {}
