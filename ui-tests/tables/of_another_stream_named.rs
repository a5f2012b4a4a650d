// R1: a table points to memory of its own stream.
// Instead: make the table on a context of stream `'a`.
use tidelock::{Buffer, Ctx, Result, sim::Sim};

pub fn read<'a, 'b>(b: Ctx<'_, Sim<'b>>, pool: &Buffer<u8, Sim<'a>>) -> Result<()> {
    b.with_pool().table([pool.view()]).map(drop)
}

fn main() {}
