// R10: a context allocates device memory only from an allocator it was given.
// Instead: `State::zeros(&stream.ctx().with_pool(), 8)`.
use tidelock::{DeviceLocation, Result, State, Stream};

pub fn lengths<L: DeviceLocation>(stream: &Stream<L>) -> Result<()> {
    State::<u32, L, _>::zeros(&stream.ctx(), 8)?;
    Ok(())
}

fn main() {}
