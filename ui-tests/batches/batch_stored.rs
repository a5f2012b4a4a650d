// R5: a batch ends with its scope, submitted or not; nothing of it is left for the next one.
// Instead: keep the `BatchCopy`, and open a scope where the copies are made.
use tidelock::{BatchCopy, Ctx, DeviceLocation, Result, batch::Batch};

pub fn keep<'env, L: DeviceLocation>(ctx: Ctx<'_, L>, storage: &mut BatchCopy) -> Result<()> {
    let mut kept: Option<&mut Batch<'_, 'env, L>> = None;
    storage.scope(&ctx, |b| {
        kept = Some(b);
        Ok(())
    })
}

fn main() {}
