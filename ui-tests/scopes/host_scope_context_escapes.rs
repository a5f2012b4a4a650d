// R4: a scope's context ends with the scope.
// Instead: ask the stream for another one behind the scope.
use tidelock::{DeviceLocation, Result, Stream};

pub fn send<L: DeviceLocation>(mut stream: Stream<L>) -> Result<()> {
    let ctx = stream.host_scope(|scope| scope.ctx())?;
    ctx.memory_info().map(drop)
}

fn main() {}
