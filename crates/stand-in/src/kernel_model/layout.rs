//! The parameters of a copy kernel, as `copy.cu` lays them out.

use core::mem;

/// Words of a table that a block fetches at once.
pub(super) const PIECE_WORDS: usize = 512;

/// Which of the copy kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Variant {
    /// Whether the words are in a table.
    pub(crate) in_table: bool,
    /// Whether the first words of the table are in the parameters too.
    pub(crate) mixed: bool,
    /// Whether this kernel looks at the first segment only.
    pub(crate) single: bool,
    /// Whether everything is a multiple of 16 bytes, as this kernel takes for granted.
    pub(crate) plain: bool,
    /// Whether chunks are words or bytes of copies of one length, as this kernel takes for granted.
    pub(crate) unit: bool,
    /// Groups of 16 bytes that each thread moves.
    pub(crate) groups: u32,
}

/// `struct Segment`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Segment {
    pub(crate) src: u64,
    pub(crate) dst: u64,
    pub(crate) src_pitch: u64,
    pub(crate) dst_pitch: u64,
    pub(crate) bytes: u64,
    pub(crate) form: u32,
    pub(crate) first_block: u32,
    pub(crate) chunks: u32,
    pub(crate) row_chunks: u32,
    pub(crate) magic: u32,
    pub(crate) shift: u32,
    pub(crate) words: u32,
    pub(crate) old: u32,
    pub(crate) second: u64,
    pub(crate) copies: u32,
    pub(crate) owners: u32,
    pub(crate) staged: u32,
    pub(crate) unit: u32,
}

/// `struct Head`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Head {
    pub(crate) segments: u32,
    pub(crate) fetchers: u32,
    pub(crate) early: u32,
    pub(crate) epoch: u32,
    pub(crate) table: u64,
    pub(crate) fetched: u64,
    pub(crate) pieces: u32,
    /// How many words of the parameters lie behind the segments: all there are, or the first ones
    /// of the table.
    along: u32,
    /// The first blocks of the second segment and of those behind it; the largest number where
    /// there is none.
    pub(crate) starts: [u32; 4],
}

/// The parameters of one launch.
#[derive(Debug)]
pub(crate) struct Parameters {
    pub(crate) head: Head,
    pub(crate) segments: Vec<Segment>,
    /// Those in the parameters, behind the segments; with a table they are its first ones.
    pub(crate) words: Vec<u32>,
}

/// What is made of bytes, whatever they are.
///
/// # Safety
/// - Every pattern of bits is a value.
unsafe trait Plain: Copy {}
// SAFETY: an integer.
unsafe impl Plain for u32 {}
// SAFETY: integers.
unsafe impl Plain for Segment {}
// SAFETY: integers.
unsafe impl Plain for Head {}

impl Variant {
    /// The chunks of a block.
    pub(crate) fn tile(self) -> u32 {
        self.groups.wrapping_mul(super::THREADS)
    }
}

impl Parameters {
    /// Reads the parameter of a kernel, all of whose bytes these are.
    ///
    /// # Errors
    /// In words, if the segments do not fit into the parameter.
    pub(crate) fn read(bytes: &[u8], variant: Variant) -> Result<Parameters, String> {
        let too_small = || format!("the segments do not fit into a parameter of {} bytes", bytes.len());
        let head: Head = value(bytes, 0).ok_or_else(too_small)?;
        // With a table alone there are no words behind the segments.
        let along = if variant.in_table && !variant.mixed { 0 } else { size(head.along) };
        let segment_at =
            |index: usize| index.saturating_mul(mem::size_of::<Segment>()).saturating_add(mem::size_of::<Head>());
        let behind = segment_at(size(head.segments));
        let segments = (0..size(head.segments)).map(|index| value(bytes, segment_at(index)));
        let words = (0..along).map(|index| value(bytes, index.saturating_mul(4).saturating_add(behind)));
        let words = words.collect::<Option<_>>().ok_or_else(too_small)?;
        Ok(Parameters { head, segments: segments.collect::<Option<_>>().ok_or_else(too_small)?, words })
    }

    /// How many words there are: in the parameters, in a table that is fetched, or up to the last
    /// one that is said to be used.
    pub(crate) fn all_words(&self, variant: Variant) -> usize {
        if !variant.in_table {
            self.words.len()
        } else if self.head.fetched != 0 {
            size(self.head.pieces).saturating_mul(PIECE_WORDS)
        } else {
            self.segments.iter().map(|segment| segment.words_end(variant.tile())).max().unwrap_or(0)
        }
    }
}

impl Segment {
    /// How many words there are for each copy, in halves.
    fn half_words(&self) -> usize {
        match self.form {
            super::ROWS_16 => 1,
            super::ROWS => 2,
            super::PAIRS => 4,
            super::RAGGED => 6,
            _ => 10,
        }
    }

    /// Behind the last of its words in a table.
    fn words_end(&self, tile: u32) -> usize {
        let words = size(self.copies).saturating_mul(self.half_words()).div_ceil(2);
        let end = size(self.words).saturating_add(words);
        let owners = size(self.blocks(tile)).saturating_add(1).saturating_add(size(self.owners));
        if self.form > super::PAIRS && self.form <= super::WIDE { end.max(owners) } else { end }
    }

    /// The blocks that work for it.
    pub(crate) fn blocks(&self, tile: u32) -> u32 {
        self.chunks.div_ceil(tile.max(1))
    }
}

/// The value at `offset`, if all of it is there.
fn value<T: Plain>(bytes: &[u8], offset: usize) -> Option<T> {
    let found = bytes.get(offset..)?.get(..mem::size_of::<T>())?;
    // SAFETY: the slice has the size of a `T`, and every pattern of bits is one.
    Some(unsafe { found.as_ptr().cast::<T>().read_unaligned() })
}

/// A number of the kernel's as a size.
pub(crate) fn size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
