// R6: a group that ends behind the call may still be rolled back.
// Instead: open the batch and the group in the closure of `init_with`.
use tidelock::{BatchCopy, Ctx, Error, Result, View, sim::Sim, stream::StreamAlloc};

pub fn late<'s>(ctx: Ctx<'_, Sim<'s>, StreamAlloc<Sim<'s>>>, source: View<'_, u32, Sim<'s>>) -> Result<()> {
    BatchCopy::new().scope(&ctx, |batch| {
        batch.group(|group| {
            let (_copy, ()) = ctx.init_with(ctx.alloc::<u32>(4)?, |out| group.copy(source, out))?;
            Ok::<(), Error>(())
        })
    })
}

fn main() {}
