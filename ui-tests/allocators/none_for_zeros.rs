// R10: a context allocates device memory only from an allocator it was given.
// Instead: `stream.ctx().with_pool()`, or `with_device_alloc(&stack)`.
use tidelock::{Result, Stream, sim::Sim};

pub fn scratch(stream: &Stream<Sim<'_>>) -> Result<()> {
    let _logits = stream.ctx().zeros::<f32>(8)?;
    Ok(())
}

fn main() {}
