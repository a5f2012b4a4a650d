// R5: a group ends with its closure, merged and counted, or rolled back.
// Instead: add the copies inside of the closure.
use tidelock::{
    DeviceLocation, Result,
    batch::{Batch, Group},
};

pub fn keep<'env, L: DeviceLocation>(batch: &mut Batch<'_, 'env, L>) -> Result<()> {
    let mut kept: Option<&mut Group<'_, 'env, L>> = None;
    batch.group(|g| {
        kept = Some(g);
        Ok(())
    })
}

fn main() {}
