// R10: page-locked memory and streams come from the library: `Backend` is sealed.
// Instead: `sim::Device` is a device without hardware.
use std::{num::NonZero, ptr::NonNull};
use tidelock::{Backend, PinnedPool, sim::SimBackend};

#[derive(Clone, Copy, Debug)]
pub struct Mine;

unsafe impl Backend for Mine {
    type Queue = <SimBackend as Backend>::Queue;
    fn pinned_pool() -> &'static PinnedPool<Self> {
        static POOL: PinnedPool<Mine> = PinnedPool::new();
        &POOL
    }
    fn pin(_: NonZero<usize>) -> Result<NonNull<u8>, tidelock::DriverError> {
        Ok(NonNull::dangling())
    }
    unsafe fn unpin(_: NonNull<u8>) -> Result<(), tidelock::DriverError> {
        Ok(())
    }
}

fn main() {}
