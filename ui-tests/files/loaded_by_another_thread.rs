// R2: tensors are loaded by the thread of their stream.
// Instead: give the load to the thread that has the stream; the copying threads are the load's own.
use tidelock::{DeviceLocation, Stream, file::File};

pub fn load<L: DeviceLocation>(stream: &mut Stream<L>, file: &File<'_>) {
    let ctx = stream.ctx();
    std::thread::scope(|scope| {
        scope.spawn(|| file.load().through_ring(&ctx).is_ok());
    });
}

fn main() {}
