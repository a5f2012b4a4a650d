// R2: what belongs to a stream stays on the stream's thread.
// Instead: wait for the time here, and send the `Duration`.
use tidelock::{Ctx, Result, sim::Sim};

pub fn send(ctx: Ctx<'_, Sim<'_>>) -> Result<()> {
    let span = ctx.elapsed_since(ctx.mark()?)?;
    std::thread::scope(|scope| {
        scope.spawn(|| span.wait().is_ok());
    });
    Ok(())
}

fn main() {}
