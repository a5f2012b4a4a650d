// R1: what belongs to a stream stays inside of the stream's closure.
// Instead: copy to staged memory, synchronise, and return the host's copy.
use tidelock::{Result, sim};

fn main() -> Result<()> {
    let _logits = sim::Device::default().stream(|stream, _env| stream.ctx().with_pool().zeros::<f32>(8))??;
    Ok(())
}
