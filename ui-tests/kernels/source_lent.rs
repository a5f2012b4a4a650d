// R4: lent host memory is pageable, and out of the reach of kernels.
// Instead: copy it to the device first: `ctx.copy(scope.source(tokens), device.view_mut())`.
use tidelock::{Result, Stream, sim::Sim};

pub fn look(stream: &mut Stream<Sim<'_>>, tokens: &[u32]) -> Result<()> {
    stream.host_scope(|scope| scope.ctx().launch((scope.source(tokens),), |(tokens,)| drop(tokens.first())))?
}

fn main() {}
