//! The kernels of strided.cu.

#![forbid(unsafe_code)]

use super::layout::LOOPS;

/// What a kernel does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Body {
    /// Copies units of so many bytes, in so many loops.
    Strided { unit: usize, loops: usize },
    /// Turns rectangles of elements of so many bytes, so many of which are accessed together.
    Turned { unit: usize, together: usize },
}

/// The kernels with one body.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Variant {
    pub(in super::super) body: Body,
    /// The bytes of the parameter of each.
    pub(in super::super) sizes: &'static [usize],
}

const SIZES: &[usize] = &[512, 2560, 20992];
const BOTH: &[usize] = &[512, 20992];

/// All kernels of strided.cu.
pub(in super::super) const VARIANTS: [Variant; 16] = {
    const fn strided(unit: usize, loops: usize, sizes: &'static [usize]) -> Variant {
        Variant { body: Body::Strided { unit, loops }, sizes }
    }
    const fn turned(unit: usize, together: usize) -> Variant {
        Variant { body: Body::Turned { unit, together }, sizes: BOTH }
    }
    [
        strided(16, 1, SIZES),
        strided(16, 2, SIZES),
        strided(16, 3, SIZES),
        strided(16, LOOPS, BOTH),
        strided(8, LOOPS, BOTH),
        strided(4, LOOPS, BOTH),
        strided(2, LOOPS, BOTH),
        strided(1, LOOPS, BOTH),
        turned(8, 2),
        turned(8, 1),
        turned(4, 2),
        turned(4, 1),
        turned(2, 2),
        turned(2, 1),
        turned(1, 4),
        turned(1, 1),
    ]
};

impl Body {
    /// The body that copies units of `unit` bytes in `depth` loops.
    pub(super) const fn strided(unit: usize, depth: usize) -> Body {
        let loops = match (unit, depth) {
            (16, 0 | 1) => 1,
            (16, 2 | 3) => depth,
            _ => LOOPS,
        };
        Body::Strided { unit, loops }
    }

    /// How many elements of `unit` bytes are accessed together, if they are aligned.
    pub(super) const fn together(unit: usize) -> usize {
        if unit == 1 { 4 } else { 2 }
    }

    /// The loops that its kernels have.
    pub(super) const fn loops(self) -> usize {
        match self {
            Body::Strided { loops, .. } => loops,
            Body::Turned { .. } => LOOPS,
        }
    }

    /// The units that a thread copies.
    pub(super) const fn units(self) -> u32 {
        match self {
            Body::Strided { unit: 16, .. } => 2,
            _ => 4,
        }
    }

    /// The elements along a side of a rectangle.
    pub(super) const fn side(self) -> usize {
        match self {
            Body::Turned { together, .. } => together.saturating_mul(32),
            Body::Strided { .. } => 1,
        }
    }
}

impl Variant {
    /// The name of its kernel with a parameter of `bytes` bytes.
    pub(in super::super) fn name(&self, bytes: usize) -> String {
        match self.body {
            Body::Strided { unit, loops } => format!("strided_{unit}_{loops}_{bytes}"),
            Body::Turned { unit, together } => format!("turned_{unit}_{together}_{bytes}"),
        }
    }
}
