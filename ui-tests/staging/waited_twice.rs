// R8: a fence gives its buffers back once.
// Instead: keep what `wait` returned; to look without waiting, `pending.is_ready()`.
use tidelock::{
    Buffer, DeviceLocation, Error,
    stream::{Pending, Staged},
};

pub fn fetch<L: DeviceLocation>(pending: Pending<Buffer<u32, Staged<L>>, L>) -> Result<u32, Error> {
    let first = pending.wait()?[0];
    let second = pending.wait()?[1];
    Ok(first.max(second))
}

fn main() {}
