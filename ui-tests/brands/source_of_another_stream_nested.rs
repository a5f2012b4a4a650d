// R1: a stream uses its own memory, not another stream's.
// Instead: write the code generically over the two locations, and the message names them.
use tidelock::{Error, Result, sim};

fn main() -> Result<()> {
    let device = sim::Device::default();
    device.stream(|a, _| {
        device.stream(|b, _| {
            let source = a.ctx().with_pool().zeros::<f32>(8)?;
            let mut target = b.ctx().with_pool().zeros::<f32>(8)?;
            b.ctx().copy(source.view(), target.view_mut())?;
            Ok::<(), Error>(())
        })?
    })?
}
