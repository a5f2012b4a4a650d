// R1: a context belongs to a device stream.
// Instead: `fn step<L: DeviceLocation>(ctx: &Ctx<'_, L>)`.
use tidelock::{Ctx, location::Host};

pub fn step(_ctx: &Ctx<'_, Host>) {}

fn main() {}
