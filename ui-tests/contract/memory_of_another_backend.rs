// R9: memory of one backend on a stream of another.
// Instead: stage it through the host: `out.reclaim(&stream.synchronize()?)`, then `ctx.upload(..)`.
use tidelock::{Ctx, Result, View, ViewMut, cuda::Cuda, sim::Sim};

pub fn copy<'s, 't>(ctx: &Ctx<'_, Cuda<'s>>, from: View<'_, u32, Sim<'t>>, to: ViewMut<'_, u32, Cuda<'s>>) -> Result<()> {
    ctx.copy(from, to)
}

fn main() {}
