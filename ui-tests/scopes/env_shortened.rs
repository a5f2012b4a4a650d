// R1: the environment is invariant in the brand, so that nothing that dies before the stream passes for lent.
// Instead: pass the environment on as it is.
use tidelock::{DeviceLocation, stream::Env};

pub fn shorten<'long: 'short, 'short, 'env: 'long, L: DeviceLocation>(
    env: Env<'long, 'env, L>,
) -> Env<'short, 'env, L> {
    env
}

fn main() {}
