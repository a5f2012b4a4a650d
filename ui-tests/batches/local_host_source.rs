// R4: host memory that a batch copies outlives its scope, at whose end it is read.
// Instead: build `row` before the scope.
use tidelock::{BatchCopy, Ctx, DeviceLocation, Result, View, ViewMut};

pub fn write<L: DeviceLocation>(ctx: Ctx<'_, L>, batch: &mut BatchCopy, target: ViewMut<'_, u32, L>) -> Result<()> {
    batch.scope(&ctx, |b| {
        let row = [1, 2, 3, 4];
        b.copy(View::from(&row[..]), target)
    })
}

fn main() {}
