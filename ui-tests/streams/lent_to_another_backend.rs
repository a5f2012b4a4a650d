// R9: a stream of one backend does not use memory of another.
// Instead: through the host: `ctx.fence(staged)?.wait()?`, then `b.upload(&slice, target)`.
use tidelock::{Ctx, Result, View, cuda::Cuda, sim::Sim};

pub fn lend<'s, 't>(a: &Ctx<'_, Cuda<'s>>, weights: View<'_, f32, Cuda<'s>>, b: &Ctx<'_, Sim<'t>>) -> Result<usize> {
    a.lend(weights, b, |weights| weights.len())
}

fn main() {}
