// R1: a kernel uses memory of its own stream.
// Instead: launch on a context of stream `'a`.
use tidelock::{Buffer, Ctx, Result, sim::Sim};

pub fn double<'a, 'b>(b: Ctx<'_, Sim<'b>>, tokens: &mut Buffer<u32, Sim<'a>>) -> Result<()> {
    b.launch((tokens.view_mut(),), |(tokens,)| tokens.iter_mut().for_each(|t| *t *= 2))
}

fn main() {}
