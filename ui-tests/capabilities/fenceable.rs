// R8: a fence brings staged memory back to the host, and nothing else.
// Instead: drop device memory whenever you like: it is freed in stream order.
use tidelock::{Buffer, Ctx, DeviceLocation, Error};

pub fn fetch<L: DeviceLocation>(ctx: Ctx<'_, L>, logits: Buffer<f32, L>) -> Result<(), Error> {
    drop(ctx.fence(logits)?);
    Ok(())
}

fn main() {}
