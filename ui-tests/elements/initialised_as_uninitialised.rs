// R6: memory that holds values never becomes uninitialised again.
// Instead: a function that only writes takes `impl Dst<'_, u32, L>`, which both kinds of views are.
use std::mem::MaybeUninit;
use tidelock::{Buffer, Ctx, DeviceLocation, Result, ViewMut};

fn reset<L: DeviceLocation>(ctx: Ctx<'_, L>, target: ViewMut<'_, MaybeUninit<u32>, L>) -> Result<()> {
    ctx.clear(target)
}

pub fn again<L: DeviceLocation>(ctx: Ctx<'_, L>, tokens: &mut Buffer<u32, L>) -> Result<()> {
    reset(ctx, tokens.view_mut())
}

fn main() {}
