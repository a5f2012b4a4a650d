// R4: what is lent for the stream's whole life is declared outside of the stream.
// Instead: declare `weights` before `device.stream(..)`, or lend it in `stream.host_scope(|h| ..)`.
use tidelock::{Result, sim};

fn main() -> Result<()> {
    sim::Device::default().stream(|stream, env| {
        let weights = vec![0.5_f32; 8];
        let ctx = stream.ctx().with_pool();
        let mut device = ctx.zeros::<f32>(8)?;
        ctx.copy(env.source(&weights), device.view_mut())
    })?
}
