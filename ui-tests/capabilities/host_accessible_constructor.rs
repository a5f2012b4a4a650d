// R17: the host writes the elements of memory it may touch.
// Instead: `ctx.zeros::<f32>(8)`.
use tidelock::{Buffer, Result, sim::Sim, stream::StreamAlloc};

pub fn scratch<'s>(pool: StreamAlloc<Sim<'s>>) -> Result<Buffer<f32, Sim<'s>>> {
    Buffer::zeros_in(8, pool)
}

fn main() {}
