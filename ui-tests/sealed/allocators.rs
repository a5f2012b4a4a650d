// R10: a context's allocators are those that it was given: `Allocators` is sealed.
// Instead: `ctx.with_device_alloc(..)`, `ctx.with_host_alloc(..)` or `ctx.with_pinned_alloc(..)`.
use tidelock::{
    DeviceLocation,
    alloc::{Allocator, HostAlloc},
    stream::{AllocHandle, Allocators},
};

#[derive(Clone, Copy)]
pub struct Mine;

impl Allocators for Mine {
    type Host = HostAlloc;
    type WithDevice<L: DeviceLocation, X: Allocator<L> + AllocHandle> = X;
    fn host(self) -> HostAlloc {
        HostAlloc
    }
    fn with_device<L: DeviceLocation, X: Allocator<L> + AllocHandle>(self, alloc: X) -> X {
        alloc
    }
}

fn main() {}
