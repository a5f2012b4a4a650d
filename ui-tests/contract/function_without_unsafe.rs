// R9: what a kernel of a module does is not checked: launching one is unsafe.
// Instead: `unsafe { ctx.launch_kernel((&function, grid), args) }`, with its five promises.
use tidelock::{
    Ctx, Result, ViewMut,
    cuda::{Cuda, Function, Grid},
};

pub fn fill<'s>(ctx: &Ctx<'_, Cuda<'s>>, f: &Function, x: ViewMut<'_, u32, Cuda<'s>>) -> Result<()> {
    ctx.launch_kernel((f, Grid::over(1)), (x, 7_u32))
}

fn main() {}
