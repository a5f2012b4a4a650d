// R6: only the author can know that every element is written some other way.
// Instead: `ctx.init_zeros(scratch)?` or `ctx.init_from(scratch, source)?`; else `unsafe { scratch.assume_init() }` with a proof.
use std::mem::MaybeUninit;
use tidelock::{Buffer, DeviceLocation};

pub fn trust<L: DeviceLocation>(scratch: Buffer<MaybeUninit<u32>, L>) -> Buffer<u32, L> {
    scratch.assume_init()
}

fn main() {}
