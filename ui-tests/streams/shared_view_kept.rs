// R17: a view of shared memory borrows its owner.
// Instead: keep the owner until the work that uses the view is enqueued.
use tidelock::{Ctx, DeviceLocation, Result, ViewMut, stream::Shared};

pub fn read<L: DeviceLocation>(ctx: Ctx<'_, L>, x: Shared<u32, L>, y: ViewMut<'_, u32, L>) -> Result<()> {
    let seen = x.view();
    drop(x);
    ctx.copy(seen, y)
}

fn main() {}
