// R14: a refused call is an error that somebody looks at.
// Instead: `ctx.copy(source, target)?`.
#![deny(unused_must_use)]
use tidelock::{Ctx, DeviceLocation, View, ViewMut};

pub fn send<L: DeviceLocation>(ctx: Ctx<'_, L>, source: View<'_, u32, L>, target: ViewMut<'_, u32, L>) {
    ctx.copy(source, target);
}

fn main() {}
