// R2: a stream does not dereference to a context, which could then be copied out of it.
// Instead: `stream.ctx()`, whose borrow ends before the stream can synchronise.
use tidelock::{Ctx, DeviceLocation, Stream};

pub fn detach<L: DeviceLocation>(stream: &Stream<L>) -> Ctx<'_, L> {
    *stream
}

fn main() {}
