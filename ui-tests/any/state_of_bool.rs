// R9: bytes that were moved are elements again only if every bit pattern is a value.
// Instead: warp it as bytes, or keep the mask as `u8`.
use tidelock::{Result, any::AnyState, sim::Sim};

pub fn mask<'s>(state: &AnyState<Sim<'s>>) -> Result<usize> {
    Ok(state.front::<bool>()?.size())
}

fn main() {}
