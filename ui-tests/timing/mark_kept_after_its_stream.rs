// R1: a mark belongs to its stream, and does not outlive it.
// Instead: wait for the time inside of the stream: `ctx.elapsed_since(mark)?.wait()?` is a `Duration`.
use tidelock::{Result, sim};

pub fn keep() -> Result<()> {
    let _mark = sim::Device::default().stream(|stream, _env| stream.ctx().mark())??;
    Ok(())
}

fn main() {}
