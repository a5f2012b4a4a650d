// R2: what belongs to a stream stays on the stream's thread.
// Instead: wait for the time here, and send the `Duration`.
use tidelock::{Ctx, Result, sim::Sim};

fn to_another_thread<T: Send>(_: T) {}

pub fn send(ctx: Ctx<'_, Sim<'_>>) -> Result<()> {
    let span = ctx.elapsed_since(ctx.mark()?)?;
    to_another_thread(span);
    Ok(())
}

fn main() {}
