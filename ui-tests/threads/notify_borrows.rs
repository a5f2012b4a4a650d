// R2: a closure that the stream's passing calls runs on another thread, at any later time.
// Instead: move what it needs into it, and send what it finds over a channel: `move |_| tell.send(()).unwrap()`.
use tidelock::{Ctx, DeviceLocation, Result};

pub fn count<L: DeviceLocation>(ctx: &Ctx<'_, L>) -> Result<u32> {
    let mut passed = 0;
    ctx.notify(|_| passed += 1)?;
    Ok(passed)
}

fn main() {}
