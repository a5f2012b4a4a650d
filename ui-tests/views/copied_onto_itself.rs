// R17: a copy reads one memory and writes another.
// Instead: cut one exclusive view: `let (head, tail) = x.view_mut().split_at(4)?; ctx.copy(head.into_view(), tail)`.
use tidelock::{Buffer, Ctx, DeviceLocation, Result};

pub fn shift<L: DeviceLocation>(ctx: Ctx<'_, L>, x: &mut Buffer<u32, L>) -> Result<()> {
    ctx.copy(x.view().slice(..4)?, x.view_mut().slice(4..)?)
}

fn main() {}
