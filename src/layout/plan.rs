//! How elements get from one layout to another: as runs of bytes, in loops.

#![forbid(unsafe_code)]

use core::cmp::Reverse;

use tidelock_driver::{Loop, Loops};

use super::Layout;
use crate::error::{Error, Result};

/// The loops that copy the elements of `src` to those of `dst`, of `size` bytes each.
///
/// The innermost loops are those of the smallest strides of the destination, so that it is written
/// from front to back where it has no gaps. Axes that continue one another at both sides are one.
///
/// # Errors
/// [`Error::Rank`] and [`Error::Length`] if the shapes differ, [`Error::Aliases`] if `dst` is not
/// injective, [`Error::TooLarge`] if the bytes overflow.
pub(crate) fn plan<const R: usize>(src: &Layout<R>, dst: &Layout<R>, size: usize) -> Result<Loops> {
    for (axis, (&expected, &found)) in src.shape().iter().zip(&dst.shape()).enumerate() {
        if expected != found {
            return Err(Error::Extent { operand: "dst", axis, expected, found });
        }
    }
    if src.size() == 0 || size == 0 {
        return Ok(Loops::NOTHING);
    }
    dst.injective("dst")?;
    let too_large = Error::TooLarge { operand: "dst" };
    let mut axes = [Loop::default(); R];
    for (axis, ((times, src), dst)) in axes.iter_mut().zip(src.shape().into_iter().zip(src.stride()).zip(dst.stride()))
    {
        let (src, dst) = (src.checked_mul(size), dst.checked_mul(size));
        // A stride that is not used may be anything.
        let (src, dst) = if times == 1 { (Some(0), Some(0)) } else { (src, dst) };
        *axis = Loop { times, src: src.ok_or(too_large)?, dst: dst.ok_or(too_large)? };
    }
    // The outermost loop first.
    axes.sort_by_key(|axis| Reverse((axis.dst, axis.src)));
    let mut run = size;
    let mut loops = [Loop::default(); R];
    // How many places at the front of `loops` are free: it fills from the back.
    let mut free = R;
    for &axis in axes.iter().rev().filter(|axis| axis.times != 1) {
        match loops.get_mut(free) {
            None if axis.src == run && axis.dst == run => run = run.checked_mul(axis.times).ok_or(too_large)?,
            Some(inner) if continues(&axis, inner) => inner.times = inner.times.wrapping_mul(axis.times),
            _ => {
                free = free.wrapping_sub(1);
                if let Some(place) = loops.get_mut(free) {
                    *place = axis;
                }
            }
        }
    }
    Loops::new(run, loops.get(free..).unwrap_or(&[])).ok_or(too_large)
}

/// Whether `outer` goes on at both sides where `inner` ends.
fn continues(outer: &Loop, inner: &Loop) -> bool {
    let next = |stride: usize| inner.times.checked_mul(stride);
    next(inner.src) == Some(outer.src) && next(inner.dst) == Some(outer.dst)
}
