//! How copies are described to the kernel: segments, forms and words.
//!
//! The layouts and numbers are those of kernels/copy.cu, where they are explained.

#![forbid(unsafe_code)]

/// Threads of a block.
pub(super) const THREADS: u32 = 128;
/// Segments of one launch, at most.
pub(super) const SEGMENTS: usize = 16;
/// Words of a segment.
pub(super) const SEGMENT_WORDS: usize = size_of::<Segment>() / 4;
/// Bytes of launch parameters before their words.
pub(super) const FRONT: usize = size_of::<Head>() + size_of::<Segment>();
/// Words behind the first segment in the largest launch parameters, which are 16 KiB.
const ALL_WORDS: usize = (16384 - FRONT) / 4;
/// Words that fit into launch parameters, and the other segments behind them.
pub(super) const PARAMETER_WORDS: usize = ALL_WORDS - (SEGMENTS - 1) * SEGMENT_WORDS - 1;
/// Words of a table, at most.
pub(super) const TABLE_WORDS: usize = 32768;
/// Words of a table that a block fetches at once.
pub(super) const PIECE_WORDS: usize = 512;
/// Blocks that fetch a table, if all copies wait for it: 64 KiB on their way at once are about what PCIe 5 needs (H200).
const FETCHERS: u32 = 32;
/// Blocks that fetch a table whose first words are in the parameters too: fewer, so that the next ones come soon.
const FETCHERS_MIXED: u32 = 16;
/// The chunks of one launch, at most: 2 GiB, half of what the forms can count.
pub(super) const CHUNKS: u64 = 1 << 27;
/// The longest copy that is described: longer ones are the driver's.
pub(super) const LONGEST: usize = 256 << 20;

/// The forms.
pub(super) const ROWS: u32 = 0;
pub(super) const ROWS_16: u32 = 1;
pub(super) const PAIRS: u32 = 2;
pub(super) const RAGGED: u32 = 3;
pub(super) const WIDE: u32 = 4;
pub(super) const OWN: u32 = 5;

/// Some copies of a launch that are described alike.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Segment {
    pub(super) src: u64,
    pub(super) dst: u64,
    pub(super) src_pitch: u64,
    pub(super) dst_pitch: u64,
    pub(super) bytes: u64,
    pub(super) form: u32,
    pub(super) first_block: u32,
    pub(super) chunks: u32,
    pub(super) row_chunks: u32,
    pub(super) magic: u32,
    pub(super) shift: u32,
    pub(super) words: u32,
    pub(super) old: u32,
    pub(super) second: u64,
    pub(super) copies: u32,
    pub(super) owners: u32,
    pub(super) staged: u32,
    pub(super) pad: u32,
}

/// What a launch's parameters begin with.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Head {
    pub(super) segments: u32,
    pub(super) fetchers: u32,
    pub(super) early: u32,
    pub(super) epoch: u32,
    pub(super) table: u64,
    pub(super) fetched: u64,
    pub(super) pieces: u32,
    pub(super) at: u32,
}

/// The parameters of a launch: as much of it as the kernel's variant has.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Parameters {
    pub(super) head: Head,
    pub(super) first: Segment,
    pub(super) words: [u32; ALL_WORDS],
}

impl Parameters {
    pub(super) fn new() -> Self {
        Parameters { head: Head::default(), first: Segment::default(), words: [0; ALL_WORDS] }
    }

    /// Puts `segments` around their words, which are here: the first `words` ones.
    pub(super) fn put(&mut self, segments: &[Segment], words: usize) {
        (self.head.pieces, self.head.fetchers) = (0, 0);
        self.put_around(words.next_multiple_of(2), segments);
    }

    /// Puts `segments`, whose words are `table`, which blocks of the launch fetch. The first words come along if it is `mixed`.
    pub(super) fn put_table(&mut self, segments: &mut [Segment], table: &[u32], mixed: bool) {
        let pieces = u32::try_from(table.len().div_ceil(PIECE_WORDS)).unwrap_or(u32::MAX);
        let fetchers = pieces.min(if mixed { FETCHERS_MIXED } else { FETCHERS });
        (self.head.pieces, self.head.fetchers) = (pieces, fetchers);
        for segment in &mut *segments {
            segment.first_block = segment.first_block.wrapping_add(fetchers);
        }
        let along = if mixed { table.len().min(PARAMETER_WORDS) & !1 } else { 0 };
        if let (Some(room), Some(first)) = (self.words.get_mut(..along), table.get(..along)) {
            room.copy_from_slice(first);
        }
        self.put_around(along, segments);
    }

    /// Puts the first of `segments` in front of `at` words, and the others behind them.
    fn put_around(&mut self, at: usize, segments: &[Segment]) {
        let Some((first, others)) = segments.split_first() else { return };
        let other_words: &[u32] = bytemuck::cast_slice(others);
        if let Some(room) = self.words.get_mut(at..at.wrapping_add(other_words.len()))
            && let (Ok(segments), Ok(at)) = (u32::try_from(segments.len()), u32::try_from(at))
        {
            room.copy_from_slice(other_words);
            self.first = *first;
            (self.head.segments, self.head.at) = (segments, at);
        }
    }

    /// The parameters as words, as far as they say anything: nothing of them is a pointer to another part of them.
    pub(super) fn told(&self) -> &[u32] {
        let all: &[u32] = bytemuck::cast_slice(bytemuck::bytes_of(self));
        all.get(..self.bytes() / 4).unwrap_or(all)
    }

    /// The bytes of the parameters that say anything.
    pub(super) fn bytes(&self) -> usize {
        let size = |count: u32, of: usize| usize::try_from(count).unwrap_or(usize::MAX).saturating_mul(of);
        let segments = size(self.head.segments, size_of::<Segment>());
        segments.saturating_add(size(self.head.at, 4)).saturating_add(size_of::<Head>())
    }
}

static_assertions::assert_eq_size!(Segment, [u64; 12]);
static_assertions::assert_eq_size!(Head, [u64; 5]);
static_assertions::assert_eq_size!(Parameters, [u8; 16384]);
