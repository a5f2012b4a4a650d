// R2: there is one `Stream` for each brand.
// Instead: share the right to enqueue with `stream.ctx()`, which is `Copy`.
use tidelock::{DeviceLocation, Stream};

pub fn split<L: DeviceLocation>(stream: Stream<L>) -> (Stream<L>, Stream<L>) {
    let twin: Stream<L> = stream.clone();
    (stream, twin)
}

fn main() {}
