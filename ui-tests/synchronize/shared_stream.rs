// R2: synchronising takes the stream exclusively.
// Instead: take `stream: &mut Stream<L>`; functions that only enqueue take a `Ctx`.
use tidelock::{DeviceLocation, Result, Stream};

pub fn finish<L: DeviceLocation>(stream: &Stream<L>) -> Result<()> {
    stream.synchronize().map(drop)
}

fn main() {}
