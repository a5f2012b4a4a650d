// R22: rows are re-packed from one buffer into the other, never within one.
// Instead: `let (front, back) = state.both()`.
use std::num::NonZero;
use tidelock::{DeviceLocation, Permutation, Result, State, batch::Group};

pub fn compact<'env, L: DeviceLocation>(
    group: &mut Group<'_, 'env, L>,
    state: &'env mut State<u32, L>,
    survivors: Permutation<'env>,
    width: NonZero<usize>,
) -> Result<()> {
    group.warp(state.front().rows(width)?, survivors, state.front_mut().rows(width)?)
}

fn main() {}
