// R4: memory lent for the stream's whole life is the stream's until its closure has ended.
// Instead: read and write `tokens` behind `device.stream(..)`.
use tidelock::{Error, Result, sim};

fn main() -> Result<()> {
    let mut tokens = [0_u32; 8];
    sim::Device::default().stream(|stream, env| {
        let ctx = stream.ctx().with_pool();
        ctx.copy(ctx.zeros::<u32>(8)?.view(), env.target(&mut tokens))?;
        tokens[0] = 1;
        Ok::<(), Error>(())
    })?
}
