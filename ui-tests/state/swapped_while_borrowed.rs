// R4: front and back stay what they are while a view of them lives.
// Instead: swap behind the last use of `next`.
use tidelock::{Ctx, DeviceLocation, Result, State};

pub fn step<L: DeviceLocation>(ctx: Ctx<'_, L>, state: &mut State<u32, L>) -> Result<()> {
    let (now, next) = state.both();
    state.swap();
    ctx.copy(now, next)
}

fn main() {}
