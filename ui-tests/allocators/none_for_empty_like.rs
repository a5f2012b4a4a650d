// R10: a context allocates device memory only from an allocator it was given.
// Instead: `stream.ctx().with_pool().empty_like(logits)`.
use tidelock::{DeviceLocation, Result, Stream, View};

pub fn twin<L: DeviceLocation>(stream: &Stream<L>, logits: View<'_, f32, L>) -> Result<()> {
    let _twin = stream.ctx().empty_like(logits)?;
    Ok(())
}

fn main() {}
