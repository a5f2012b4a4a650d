//! Which kernel makes a strided copy, and in what order.

#![forbid(unsafe_code)]

use tidelock_driver::{self as driver, Loops};

use super::{
    super::{
        extent::{division, narrow, wide},
        layout::THREADS,
    },
    kernels::Body,
    layout::{KEEP, LOOPS, Loop},
};

/// A strided copy as a kernel makes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) body: Body,
    /// Those that the kernel has: the innermost first.
    loops: [Loop; LOOPS],
    /// Units of a block; for rectangles, tiles along the second loop.
    pub(super) units: u32,
    /// Units of a run; for rectangles, tiles along the first loop.
    pub(super) run: u32,
    /// Tiles of a block.
    pub(super) tiles: u32,
    pub(super) how: u32,
}

/// Fewer places of a loop than these make no rectangle.
const LEAST_SIDE: usize = 16;

impl Shape {
    /// The shape of copies of `loops`, of which `src` and `dst` are all addresses and all distances
    /// from block to block, combined by "or". `None` if there are more loops or units than a kernel
    /// takes.
    pub(super) fn of(loops: &Loops, src: usize, dst: usize) -> Option<Shape> {
        let all = loops.loops().iter().fold(src | dst, |all, one| all | one.src | one.dst);
        let unit = 1_usize << (all | loops.run()).trailing_zeros().min(4);
        Shape::rectangle(loops, unit, (src, dst)).or_else(|| Shape::in_order(loops, unit, dst))
    }

    /// The loops that its kernel has.
    pub(super) fn loops(&self) -> &[Loop] {
        self.loops.get(..self.body.loops()).unwrap_or(&self.loops)
    }

    fn in_order(loops: &Loops, unit: usize, dst: usize) -> Option<Shape> {
        let depth = loops.loops().len();
        let mut sorted = [driver::Loop { times: 1, src: 0, dst: 0 }; LOOPS];
        let used = sorted.get_mut(..depth)?;
        used.copy_from_slice(loops.loops());
        used.sort_by_key(|one| order(one, loops.run()));
        let body = Body::strided(unit, depth);
        let units = loops.bytes().checked_div(unit).and_then(narrow).filter(|units| *units < 1 << 31)?;
        let tile = THREADS.wrapping_mul(body.units());
        let ends = loops.loops().iter().fold(dst | adjacent(loops, |one| one.dst), |ends, one| ends | one.dst);
        let mut shape = Shape {
            body,
            loops: [Loop::default(); LOOPS],
            units,
            run: loops.run().checked_div(unit).and_then(narrow)?,
            tiles: units.div_ceil(tile),
            how: if ends.is_multiple_of(SECTOR) { 0 } else { KEEP },
        };
        for (to, from) in shape.loops.iter_mut().zip(&sorted) {
            *to = word(from, from.times)?;
        }
        Some(shape)
    }

    /// If runs are one unit, and the units are adjacent along one loop at the source and along
    /// another one at the destination.
    fn rectangle(loops: &Loops, unit: usize, (src, dst): (usize, usize)) -> Option<Shape> {
        let all = loops.loops();
        if loops.run() != unit || unit > 8 || all.len() > LOOPS {
            return None;
        }
        let a = all.iter().position(|one| one.dst == unit && one.times >= LEAST_SIDE)?;
        let b = all.iter().position(|one| one.src == unit && one.times >= LEAST_SIDE)?;
        let (first, second) = (all.get(a)?, all.get(b).filter(|_| a != b)?);
        let outer = all.iter().enumerate().filter(|(at, _)| *at != a && *at != b).map(|(_, one)| one);
        let distances = outer.clone().fold(src | dst | first.src | second.dst, |all, one| all | one.src | one.dst);
        let together = Body::together(unit);
        let is_whole = (first.times | second.times).is_multiple_of(together)
            && distances.is_multiple_of(unit.saturating_mul(together));
        let body = Body::Turned { unit, together: if is_whole { together } else { 1 } };
        let side = body.side();
        let (across, down) = (first.times.div_ceil(side), second.times.div_ceil(side));
        let mut shape = Shape {
            body,
            loops: [word(&driver::Loop { times: 1, src: 0, dst: 0 }, 1)?; LOOPS],
            units: narrow(down)?,
            run: narrow(across)?,
            tiles: 0,
            how: 0,
        };
        let (mut tiles, mut places) = (across.checked_mul(down)?, shape.loops.iter_mut());
        *places.next()? = word(first, across)?;
        *places.next()? = word(second, down)?;
        for one in outer {
            *places.next()? = word(one, one.times)?;
            tiles = tiles.checked_mul(one.times)?;
        }
        shape.tiles = narrow(tiles).filter(|tiles| *tiles < 1 << 31)?;
        Some(shape)
    }
}

/// What loops are sorted by, the innermost first: so that what lies near each other at either side
/// is copied near each other in time.
///
/// Loops that go along adjacent runs at one side come first; of these the one that stays nearer at
/// the other side, unless it is long: then the other one makes pieces of the adjacent side.
fn order(one: &driver::Loop, run: usize) -> (usize, bool, usize) {
    // A stride of 0 takes the source nowhere.
    let src = if one.src == 0 { one.dst } else { one.src };
    (src.min(one.dst), one.times.saturating_mul(run) > NEAR, src.max(one.dst))
}

/// A loop that copies more bytes than these is long: 8 tiles.
const NEAR: usize = 32 << 10;

/// The bytes of a sector of the cache.
const SECTOR: usize = 32;

/// How many bytes are adjacent on one side, in any order of the loops.
pub(super) fn adjacent(loops: &Loops, stride: impl Fn(&driver::Loop) -> usize) -> usize {
    let mut bytes = loops.run();
    while let Some(next) = loops.loops().iter().find(|one| stride(one) == bytes && one.times > 1) {
        bytes = bytes.saturating_mul(next.times);
    }
    bytes
}

/// The loop as the kernel takes it, which divides by `by`.
fn word(one: &driver::Loop, by: usize) -> Option<Loop> {
    let (magic, shift) = division(narrow(by)?);
    Some(Loop { src: wide(one.src), dst: wide(one.dst), times: narrow(one.times)?, magic, shift, pad: 0 })
}
