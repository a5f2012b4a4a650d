// R10: whoever implements a trait of the driver contract promises its clauses: each is unsafe to implement.
// Instead: `sim::Device` is a device without hardware; `examples/backend` is a backend outside of the library.
#![forbid(unsafe_code)]
use std::{num::NonZero, ptr::NonNull};
use tidelock::{
    driver::{Backend, DriverError, PinnedPool},
    sim::SimBackend,
};

#[derive(Clone, Copy, Debug)]
pub struct Mine;

impl Backend for Mine {
    type Device = <SimBackend as Backend>::Device;
    type Stream = <SimBackend as Backend>::Stream;
    type Event = u32;
    const PINNED: &'static PinnedPool<Self> = {
        static POOL: PinnedPool<Mine> = PinnedPool::new();
        &POOL
    };
    fn pin(_: NonZero<usize>) -> Result<NonNull<u8>, DriverError> {
        Ok(NonNull::dangling())
    }
    unsafe fn unpin(_: NonNull<u8>) -> Result<(), DriverError> {
        Ok(())
    }
}

fn main() {}
