// R1: a stream attaches memory that another one has detached.
// Instead: `a.transfer(x, &b)`, or `b.attach(a.detach(x)?)`.
use tidelock::{Buffer, Ctx, DeviceLocation, Result};

pub fn take<A: DeviceLocation, B: DeviceLocation>(b: Ctx<'_, B>, x: Buffer<u32, A>) -> Result<()> {
    drop(b.attach(x)?);
    Ok(())
}

fn main() {}
