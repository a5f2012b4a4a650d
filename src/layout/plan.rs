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
/// [`Error::Extent`] if the shapes differ, [`Error::Aliases`] if `dst` is not injective,
/// [`Error::TooLarge`] if the bytes overflow.
pub(crate) fn plan<const R: usize>(src: &Layout<R>, dst: &Layout<R>, size: usize) -> Result<Loops> {
    loops(src, dst, size, 0)
}

/// How the blocks of one tensor get to those of another: axis 0 is the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockPlan {
    /// The loops of one block.
    pub(crate) loops: Loops,
    /// The bytes from block to block of the source.
    pub(crate) src_pitch: usize,
    /// The same of the destination.
    pub(crate) dst_pitch: usize,
}

/// The loops that copy a block of `src` to one of `dst`, of elements of `size` bytes. There may be
/// different numbers of blocks.
///
/// # Errors
/// As for [`plan`], or [`Error::Rank`] if there is no axis.
pub(crate) fn plan_blocks<const R: usize>(src: &Layout<R>, dst: &Layout<R>, size: usize) -> Result<BlockPlan> {
    let (Some(src_pitch), Some(dst_pitch)) = (src.stride().first().copied(), dst.stride().first().copied()) else {
        return Err(Error::Rank { operand: "src", expected: 1, found: 0 });
    };
    let too_large = Error::TooLarge { operand: "dst" };
    Ok(BlockPlan {
        loops: loops(src, dst, size, 1)?,
        src_pitch: src_pitch.checked_mul(size).ok_or(too_large)?,
        dst_pitch: dst_pitch.checked_mul(size).ok_or(too_large)?,
    })
}

/// The loops over the axes from `first` on, which have one shape.
fn loops<const R: usize>(src: &Layout<R>, dst: &Layout<R>, size: usize, first: usize) -> Result<Loops> {
    for (axis, (&expected, &found)) in src.shape().iter().zip(&dst.shape()).enumerate().skip(first) {
        if expected != found {
            return Err(Error::Extent { operand: "dst", axis, expected, found });
        }
    }
    if src.size() == 0 || dst.size() == 0 || size == 0 {
        return Ok(Loops::NOTHING);
    }
    dst.injective("dst")?;
    let too_large = Error::TooLarge { operand: "dst" };
    // The axes before `first` are made once.
    let mut axes = [Loop { times: 1, src: 0, dst: 0 }; R];
    let both = src.shape().into_iter().zip(src.stride()).zip(dst.stride());
    for (axis, ((times, src), dst)) in axes.iter_mut().zip(both).skip(first) {
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

#[cfg(test)]
mod tests {
    use proptest::{
        prelude::Rng as _,
        test_runner::{RngAlgorithm, TestRng},
    };

    use super::*;
    use crate::layout::MAX_RANK;

    fn below(random: &mut TestRng, bound: usize) -> usize {
        usize::try_from(random.next_u32()).unwrap() % bound
    }

    /// Strides that nest, in a random order of the axes, some with gaps.
    fn nested(random: &mut TestRng, shape: [usize; 4]) -> Layout<4> {
        let mut order = [0, 1, 2, 3];
        for i in (1..4).rev() {
            let other = if below(random, 2) == 0 { i } else { below(random, i + 1) };
            order.swap(i, other);
        }
        let (mut stride, mut step) = ([0; 4], 1);
        for &axis in order.iter().rev() {
            stride[axis] = step;
            step *= shape[axis].max(1) + usize::from(below(random, 4) == 0);
        }
        Layout::strided(shape, stride).unwrap()
    }

    /// Offsets of source and destination of each byte, by the definition.
    fn bytes(src: &Layout<4>, dst: &Layout<4>, size: usize) -> Vec<(usize, usize)> {
        let [a, b, c, d] = src.shape();
        let mut bytes = Vec::new();
        for index in (0..a * b * c * d).map(|i| [i / (b * c * d), i / (c * d) % b, i / d % c, i % d]) {
            let (from, to) = (src.offset(index).unwrap() * size, dst.offset(index).unwrap() * size);
            bytes.extend((0..size).map(|k| (from + k, to + k)));
        }
        bytes
    }

    #[test]
    fn plans_copy_each_byte_once_and_write_ascending() {
        let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[11; 32]);
        let mut one_run = 0;
        for _ in 0..20_000 {
            let shape = [(); 4].map(|()| [0, 1, 1, 2, 2, 3, 4, 5][below(&mut random, 8)]);
            let dst = nested(&mut random, shape);
            let src = if below(&mut random, 3) == 0 {
                // Also one that names an element twice.
                Layout::strided(shape, [(); 4].map(|()| below(&mut random, 9))).unwrap()
            } else {
                nested(&mut random, shape)
            };
            let size = [1, 2, 3, 16][below(&mut random, 4)];
            let loops = plan(&src, &dst, size).unwrap();
            let case = || format!("{src} {dst} {size}");

            let mut expected = bytes(&src, &dst, size);
            let found: Vec<_> =
                loops.iter().flat_map(|(src, dst)| (0..loops.run()).map(move |k| (src + k, dst + k))).collect();
            assert!(found.is_sorted_by(|one, next| one.1 < next.1), "{}", case());
            expected.sort_unstable_by_key(|(_, to)| *to);
            assert_eq!(found, expected, "{}", case());
            assert_eq!((loops.bytes(), loops.runs()), (found.len(), loops.iter().count()), "{}", case());
            let span = |at: fn(&(usize, usize)) -> usize| found.iter().map(at).max().map_or(0, |last| last + 1);
            assert_eq!((loops.src_span(), loops.dst_span()), (span(|at| at.0), span(|at| at.1)), "{}", case());

            // Nothing is left to merge.
            assert!(loops.loops().windows(2).all(|pair| !continues(&pair[0], &pair[1])), "{}", case());
            let run = loops.run();
            assert!(loops.loops().last().is_none_or(|one| (one.src, one.dst) != (run, run)), "{}", case());
            assert!(loops.loops().iter().all(|one| one.times > 1), "{}", case());
            one_run += usize::from(loops.runs() == 1);
        }
        assert!((500..10_000).contains(&one_run), "{one_run}");
    }

    #[test]
    fn what_has_no_plan() {
        let layout = |shape, stride| Layout::strided(shape, stride).unwrap();
        let (wide, narrow) = (layout([2, 3], [3, 1]), layout([2, 4], [4, 1]));
        let differs = Error::Extent { operand: "dst", axis: 1, expected: 3, found: 4 };
        assert_eq!(plan(&wide, &narrow, 4), Err(differs));
        // Also where there are no elements, or none of any bytes.
        assert_eq!(plan(&layout([0, 3], [3, 1]), &layout([0, 4], [4, 1]), 4), Err(differs));
        assert_eq!(plan(&wide, &narrow, 0), Err(differs));
        assert_eq!(plan(&wide, &wide, 0), Ok(Loops::NOTHING));
        let twice = layout([2, 3], [0, 1]);
        assert_eq!(plan(&wide, &twice, 4), Err(Error::Aliases { operand: "dst", axis: 0 }));
        assert_eq!(plan(&twice, &wide, 4).unwrap().loops(), [Loop { times: 2, src: 0, dst: 12 }]);
        // Bytes overflow where elements do not.
        let most = isize::MAX.unsigned_abs();
        let far = layout([2, 1], [most - 1, 1]);
        let near = layout([2, 1], [1, 1]);
        let too_large = Err(Error::TooLarge { operand: "dst" });
        assert_eq!((plan(&far, &near, 4), plan(&near, &far, 4)), (too_large, too_large));
        assert_eq!((plan(&far, &near, 2), plan(&near, &far, 2)), (too_large, too_large));
        assert_eq!(plan(&far, &near, 1).unwrap().src_span(), most);
        // A stride that no index uses overflows nothing.
        let unused = layout([1, 2], [most, 1]);
        assert_eq!(plan(&unused, &unused, 8).map(|loops| (loops.run(), loops.runs())), Ok((16, 1)));
        let full = layout([1, most], [most, 1]);
        assert_eq!(plan(&full, &full, 1).unwrap().run(), most);
        assert_eq!(plan(&full, &full, 2), too_large);
    }

    #[test]
    fn eight_axes_are_eight_loops() {
        let shape = [2; MAX_RANK];
        let src = Layout::new(shape).unwrap();
        let dst = src.permute([7, 6, 5, 4, 3, 2, 1, 0]).unwrap();
        let loops = plan(&src, &dst, 1).unwrap();
        assert_eq!((loops.loops().len(), loops.runs()), (8, 256));
        assert!(loops.iter().zip(0_u8..=255).all(|(run, at)| run == (at.reverse_bits().into(), at.into())));
    }
}
