// R17: there is one exclusive view at a time.
// Instead: `let (head, tail) = tokens.view_mut().split_at(4)?`.
use tidelock::{Buffer, Ctx, DeviceLocation, Result};

pub fn halves<L: DeviceLocation>(ctx: Ctx<'_, L>, tokens: &mut Buffer<u32, L>) -> Result<()> {
    let head = tokens.view_mut().slice(..4)?;
    let tail = tokens.view_mut().slice(4..)?;
    ctx.clear(head)?;
    ctx.clear(tail)
}

fn main() {}
