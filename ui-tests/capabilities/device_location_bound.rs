// R1: generic engine code says that its location is a device stream's.
// Instead: `fn step<L: DeviceLocation>(ctx: &Ctx<'_, L>)`.
use tidelock::Ctx;

pub fn step<L>(_ctx: &Ctx<'_, L>) {}

fn main() {}
