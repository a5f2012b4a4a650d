// R2: only the stream that uses the memory can say that it has finished.
// Instead: `a.synchronize()`.
use tidelock::{Error, Result, sim};

fn main() -> Result<()> {
    let device = sim::Device::default();
    device.stream(|a, _| {
        device.stream(|mut b, _| {
            let staged = a.ctx().alloc_pinned::<u32>(8)?.stage(&a.ctx());
            let done = b.synchronize()?;
            drop(staged.reclaim(&done));
            Ok::<(), Error>(())
        })?
    })?
}
