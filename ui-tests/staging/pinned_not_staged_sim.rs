// R3: a stream uses pinned memory only after it was handed over.
// Instead: `ctx.init_from(ctx.alloc(2)?, tokens.stage(&ctx).view())`.
use tidelock::{Buffer, Error, Result, location::Pinned, sim};

fn main() -> Result<()> {
    sim::Device::default().stream(|stream, _env| {
        let ctx = stream.ctx().with_pool();
        let tokens = Buffer::<u32, Pinned<sim::SimBackend>>::from_slice(&[11, 12])?;
        ctx.init_from(ctx.alloc(2)?, tokens.view())?;
        Ok::<(), Error>(())
    })?
}
