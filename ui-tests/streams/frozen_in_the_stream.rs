// R11: memory shared by streams outlives every stream that reads it.
// Instead: freeze the weights before the stream is opened.
use tidelock::{Error, Result, sim};

fn main() -> Result<()> {
    sim::Device::default().stream(|stream, env| {
        let ctx = stream.ctx().with_pool();
        let weights = ctx.detach(ctx.zeros::<f32>(8)?)?.freeze();
        ctx.init_from(ctx.alloc(8)?, env.frozen(&weights)?)?;
        Ok::<(), Error>(())
    })?
}
