// R4: a lent view ends with its scope.
// Instead: enqueue every use of the view inside of the scope.
use tidelock::{DeviceLocation, Result, Stream};

pub fn send<L: DeviceLocation>(mut stream: Stream<L>, tokens: &[u32]) -> Result<()> {
    let view = stream.host_scope(|scope| scope.source(tokens))?;
    drop(view);
    Ok(())
}

fn main() {}
