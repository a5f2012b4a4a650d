// R3: only memory of the default allocator changes streams; an arena gives its memory to its own stream again.
// Instead: allocate it with `a.with_pool()`, or lend a view of it: `a.lend(view, &b, |view| ..)`.
use tidelock::{Buffer, Ctx, Result, Stack, sim::Sim};

pub fn hand_over<'a, 'b>(
    a: Ctx<'_, Sim<'a>>,
    buffer: Buffer<u32, Sim<'a>, &Stack<Sim<'a>>>,
    b: Ctx<'_, Sim<'b>>,
) -> Result<()> {
    a.transfer(buffer, &b)?;
    Ok(())
}

fn main() {}
