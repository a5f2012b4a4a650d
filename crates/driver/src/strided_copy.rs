//! Strided copies, as an operand of a batch.

use core::{fmt, ptr::NonNull};

use crate::{loops::Loops, widen};

/// A copy of runs of one length in nested loops, once or for pairs of blocks (O12). Both addresses
/// are those of the first run, of block 0 if there are blocks.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct StridedCopy {
    /// The destination.
    pub dst: *mut u8,
    /// The source.
    pub src: *const u8,
    /// The runs, at least one.
    pub loops: Loops,
    /// The blocks, if there are any. Without, the copy is made once.
    pub blocks: Option<Blocks>,
}

/// Pairs of blocks, for each of which a strided copy is made.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Blocks {
    /// How many bytes a block of the source begins behind the one before.
    pub src_pitch: usize,
    /// The same for the destination.
    pub dst_pitch: usize,
    /// The number of the source block of each pair.
    pub from: NonNull<[u32]>,
    /// The number of the destination block of each pair. No two are equal.
    pub to: NonNull<[u32]>,
    /// A mask of the bits that are set in any number. It may have more bits.
    pub bits: u32,
}

impl StridedCopy {
    /// The copy of `loops` from `src` to `dst`, made once.
    #[inline]
    #[must_use]
    pub const fn new(dst: *mut u8, src: *const u8, loops: Loops) -> Self {
        StridedCopy { dst, src, loops, blocks: None }
    }

    /// The same copy, made for pairs of blocks.
    #[inline]
    #[must_use]
    pub const fn with_blocks(self, blocks: Blocks) -> Self {
        StridedCopy { blocks: Some(blocks), ..self }
    }

    /// How many times the runs are copied: the number of pairs, or 1.
    #[inline]
    #[must_use]
    pub const fn times(&self) -> usize {
        match &self.blocks {
            Some(blocks) => blocks.from.len(),
            None => 1,
        }
    }
}

impl Blocks {
    /// Blocks at these distances, in pairs of a number of `from` and the number of `to` at the same
    /// position.
    #[inline]
    #[must_use]
    pub const fn new((src_pitch, dst_pitch): (usize, usize), from: NonNull<[u32]>, to: NonNull<[u32]>) -> Self {
        Blocks { src_pitch, dst_pitch, from, to, bits: u32::MAX }
    }

    /// The same blocks, in whose numbers no other bits than these are set.
    #[inline]
    #[must_use]
    pub const fn with_bits(self, bits: u32) -> Self {
        Blocks { bits, ..self }
    }
}

/// The numbers of the blocks of a copy: of the source, and of the destination. A copy without blocks
/// has one pair, of 0 and 0.
pub type BlockNumbers<'a> = (&'a [u32], &'a [u32]);

/// The strided copies of a batch. The host may read their block numbers.
#[derive(Clone, Copy, Default)]
pub struct StridedCopies<'a> {
    /// Invariant: the block numbers of each copy are initialised and unchanged during `'a`.
    all: &'a [StridedCopy],
}

impl<'a> StridedCopies<'a> {
    /// No copies.
    pub const NONE: StridedCopies<'static> = StridedCopies { all: &[] };

    /// # Safety
    /// - The block numbers of each copy are initialised and unchanged during `'a` (O12).
    #[inline]
    #[must_use]
    pub const unsafe fn new(all: &'a [StridedCopy]) -> Self {
        StridedCopies { all }
    }

    /// The copies.
    #[inline]
    #[must_use]
    pub const fn all(self) -> &'a [StridedCopy] {
        self.all
    }

    /// The copies, each with the numbers of its blocks.
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = (&'a StridedCopy, BlockNumbers<'a>)> + Clone {
        const ONCE: &[u32] = &[0];
        self.all.iter().map(|copy| {
            let numbers = copy.blocks.as_ref().map_or((ONCE, ONCE), |blocks| {
                // SAFETY:
                // - The invariant of the type.
                let from = unsafe { blocks.from.as_ref() };
                // SAFETY:
                // - The invariant of the type.
                (from, unsafe { blocks.to.as_ref() })
            });
            (copy, numbers)
        })
    }

    /// The destination, the source and the bytes of each run of each copy.
    #[inline]
    pub fn runs(self) -> impl Iterator<Item = (*mut u8, *const u8, usize)> {
        self.iter().flat_map(|(copy, (from, to))| {
            let (src_pitch, dst_pitch) =
                copy.blocks.as_ref().map_or((0, 0), |blocks| (blocks.src_pitch, blocks.dst_pitch));
            from.iter().zip(to).flat_map(move |(&from, &to)| {
                let src = copy.src.wrapping_add(widen(from).wrapping_mul(src_pitch));
                let dst = copy.dst.wrapping_add(widen(to).wrapping_mul(dst_pitch));
                let run = copy.loops.run();
                copy.loops.iter().map(move |(from, to)| (dst.wrapping_add(to), src.wrapping_add(from), run))
            })
        })
    }

    /// The first `n` copies. `None` if there are fewer.
    #[inline]
    #[must_use]
    pub fn first(self, n: usize) -> Option<StridedCopies<'a>> {
        Some(StridedCopies { all: self.all.get(..n)? })
    }

    /// The copies behind the first `n`. `None` if there are fewer.
    #[inline]
    #[must_use]
    pub fn behind(self, n: usize) -> Option<StridedCopies<'a>> {
        Some(StridedCopies { all: self.all.get(n..)? })
    }

    /// The first copy alone, and the others. `None` if there is none.
    #[inline]
    #[must_use]
    pub fn split_first(self) -> Option<(StridedCopies<'a>, StridedCopies<'a>)> {
        Some((self.first(1)?, self.behind(1)?))
    }

    /// How many runs there are.
    #[inline]
    #[must_use]
    pub fn run_count(self) -> usize {
        self.all.iter().fold(0, |sum, copy| sum.saturating_add(copy.loops.runs().saturating_mul(copy.times())))
    }

    /// Whether there are no copies.
    #[inline]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.all.is_empty()
    }
}

impl fmt::Debug for StridedCopies<'_> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all).finish()
    }
}
