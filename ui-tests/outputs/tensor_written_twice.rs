// R6: an output is written once, or the sum of what is counted proves nothing.
// Instead: cut it with `split_at`, and write each part once; write the tensor again behind the call.
use tidelock::{Ctx, Result, TensorView, sim::Sim, stream::StreamAlloc};

pub fn twice<'s>(ctx: Ctx<'_, Sim<'s>, StreamAlloc<Sim<'s>>>, x: TensorView<'_, u32, Sim<'s>, 2>) -> Result<()> {
    let (_copy, ()) = ctx.init_with(ctx.alloc::<u32>(4)?.tensor([2, 2])?, |out| {
        ctx.copy_tensor(x, out)?;
        ctx.copy_tensor(x, out)
    })?;
    Ok(())
}

fn main() {}
