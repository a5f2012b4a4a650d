// R7: an arena's memory is reused in the order of its own stream.
// Instead: make a stack over `b.ctx().pool()`.
use tidelock::{Result, Stack, sim};

fn main() -> Result<()> {
    let device = sim::Device::default();
    device.stream(|a, _| {
        device.stream(|b, _| {
            let stack = Stack::new(a.ctx().pool());
            b.ctx().with_device_alloc(&stack).alloc::<f32>(8).map(drop)
        })?
    })?
}
