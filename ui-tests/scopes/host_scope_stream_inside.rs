// R4: the scope holds the stream until it has waited for it.
// Instead: enqueue through `scope.ctx()`.
use tidelock::{DeviceLocation, Result, Stream, ViewMut};

pub fn send<L: DeviceLocation>(mut stream: Stream<L>, tokens: &[u32], device: ViewMut<'_, u32, L>) -> Result<()> {
    stream.host_scope(|scope| stream.ctx().copy(scope.source(tokens), device))?
}

fn main() {}
