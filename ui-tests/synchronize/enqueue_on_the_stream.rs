// R2: a stream waits, a context enqueues and allocates.
// Instead: `stream.ctx().with_pool().zeros::<f32>(8)`.
use tidelock::{DeviceLocation, Result, Stream};

pub fn scratch<L: DeviceLocation>(stream: &Stream<L>) -> Result<()> {
    stream.zeros::<f32>(8).map(drop)
}

fn main() {}
