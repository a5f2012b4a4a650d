// R2: tensors are loaded by the thread of their stream.
// Instead: load on the thread that has the stream; the copying threads are the load's own.
use tidelock::{DeviceLocation, Stream, file::File};

fn on_another_thread(_: impl FnOnce() -> bool + Send) {}

pub fn load<L: DeviceLocation>(stream: &mut Stream<L>, file: &File<'_>) {
    let ctx = stream.ctx();
    on_another_thread(|| file.load().through_ring(&ctx).is_ok());
}

fn main() {}
