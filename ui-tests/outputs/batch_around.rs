// R6: a batch that ends behind the call submits too late to be counted.
// Instead: open the batch in the closure of `init_with`.
use tidelock::{BatchCopy, Ctx, Error, Result, View, sim::Sim, stream::StreamAlloc};

pub fn late<'s>(ctx: Ctx<'_, Sim<'s>, StreamAlloc<Sim<'s>>>, source: View<'_, u32, Sim<'s>>) -> Result<()> {
    BatchCopy::new().scope(&ctx, |batch| {
        let (_copy, ()) = ctx.init_with(ctx.alloc::<u32>(4)?, |out| batch.copy(source, out))?;
        Ok::<(), Error>(())
    })
}

fn main() {}
