// R6: an output ends with the call that counts it.
// Instead: write it in the closure, and use the initialised buffer behind the call.
use tidelock::{Ctx, Result, sim::Sim, stream::StreamAlloc};

pub fn later<'s>(ctx: Ctx<'_, Sim<'s>, StreamAlloc<Sim<'s>>>) -> Result<()> {
    let mut kept = None;
    let _ = ctx.init_with(ctx.alloc::<u32>(4)?, |out| {
        kept = Some(out);
        Ok::<(), tidelock::Error>(())
    });
    ctx.clear(kept.unwrap())
}

fn main() {}
