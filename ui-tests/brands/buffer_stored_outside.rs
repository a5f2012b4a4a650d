// R1: what belongs to a stream stays inside of the stream's closure.
// Instead: declare the variable inside of the closure.
use tidelock::{Result, sim};

fn main() -> Result<()> {
    let mut kept = None;
    sim::Device::default().stream(|stream, _env| {
        kept = Some(stream.ctx().with_pool().zeros::<f32>(8)?);
        Ok::<(), tidelock::Error>(())
    })?
}
