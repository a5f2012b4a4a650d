// R3: `transfer` takes the buffer away from its first stream.
// Instead: enqueue the copy before the transfer, or lend a view instead.
use tidelock::{Buffer, Ctx, Result, ViewMut, sim::Sim};

pub fn hand_over<'a, 'b>(
    a: Ctx<'_, Sim<'a>>,
    buffer: Buffer<u32, Sim<'a>>,
    b: Ctx<'_, Sim<'b>>,
    target: ViewMut<'_, u32, Sim<'a>>,
) -> Result<Buffer<u32, Sim<'b>>> {
    let moved = a.transfer(buffer, &b)?;
    a.copy(buffer.view(), target)?;
    Ok(moved)
}

fn main() {}
