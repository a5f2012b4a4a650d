// R9: an element is plain bytes, and a pointer is more than its bytes.
// Instead: a table of addresses is made of views: `ctx.table(rows)`.
use tidelock::{Buffer, Ctx, Result, sim::Sim};

pub fn table<'s>(ctx: Ctx<'_, Sim<'s>>, rows: &Buffer<i32, Sim<'s>>) -> Result<()> {
    ctx.with_pool().upload_new(&[rows.as_ptr()]).map(drop)
}

fn main() {}
