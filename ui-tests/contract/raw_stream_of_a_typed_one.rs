// R10: a program does not get hold of the raw stream behind a typed one, which it could use without its rules.
// Instead: enqueue through the `Ctx`; on CUDA, `ctx.raw_stream()` is for libraries that take a `CUstream`.
use tidelock::{DeviceLocation, Stream};

pub fn steal<L: DeviceLocation>(stream: &Stream<L>) {
    let _ = stream.handle.raw;
    let _ = stream.ctx().handle().usable_raw();
}

fn main() {}
