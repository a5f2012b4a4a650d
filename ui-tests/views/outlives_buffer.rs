// R17: a view never owns; it ends before its buffer.
// Instead: declare the buffer outside of the block.
use tidelock::{Ctx, DeviceLocation, Result, ViewMut, stream::HasAlloc};

pub fn send<L: DeviceLocation, A: HasAlloc<L>>(ctx: Ctx<'_, L, A>, target: ViewMut<'_, u32, L>) -> Result<()> {
    let view = {
        let tokens = ctx.zeros::<u32>(8)?;
        tokens.view()
    };
    ctx.copy(view, target)
}

fn main() {}
