// R14: what was handed back stands beside the reason.
// Instead: `Err(rejected) => rejected.value`.
use std::mem::MaybeUninit;
use tidelock::{Buffer, Ctx, DeviceLocation};

type Raw<L> = Buffer<MaybeUninit<u32>, L>;

pub fn zeroed<L: DeviceLocation>(ctx: Ctx<'_, L>, scratch: Raw<L>) -> Result<Buffer<u32, L>, Raw<L>> {
    ctx.init_zeros(scratch).map_err(|rejected| rejected)
}

fn main() {}
