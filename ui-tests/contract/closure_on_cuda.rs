// R9: a GPU runs no closures of the host.
// Instead: `unsafe { ctx.launch_kernel((&function, grid), args) }`, or engine code that takes the kernel as a parameter.
use tidelock::{Ctx, Result, ViewMut, cuda::Cuda};

pub fn fill<'s>(ctx: &Ctx<'_, Cuda<'s>>, x: ViewMut<'_, u32, Cuda<'s>>) -> Result<()> {
    ctx.launch((x, 7_u32), |(x, value)| x.fill(value))
}

fn main() {}
