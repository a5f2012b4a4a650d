// R14: the closures of a batch return the library's error, as a refused submission does.
// Instead: find the row before the scope: `let row = row_of(7)?;`.
use tidelock::{BatchCopy, Ctx, DeviceLocation, View, ViewMut};

pub struct UnknownSequence;

fn row_of(_sequence: u64) -> Result<usize, UnknownSequence> {
    Err(UnknownSequence)
}

pub fn step<L: DeviceLocation>(
    ctx: Ctx<'_, L>,
    batch: &mut BatchCopy,
    source: View<'_, u32, L>,
    target: ViewMut<'_, u32, L>,
) -> tidelock::Result<()> {
    batch.scope(&ctx, |b| {
        let row = row_of(7)?;
        b.copy(source.slice(row..row + 1)?, target)
    })
}

fn main() {}
