//! How copies are described to the kernel: segments, forms and words.
//!
//! The layouts and numbers are those of kernels/copy.cu, where they are explained.

#![forbid(unsafe_code)]

/// Threads of a block.
pub(super) const THREADS: u32 = 128;
/// The most segments of one launch.
pub(super) const SEGMENTS: usize = 16;
/// Segments behind the first one whose first blocks are in the head.
pub(super) const NEAR: usize = 4;
/// Words of a segment.
pub(super) const SEGMENT_WORDS: usize = size_of::<Segment>() / 4;
/// Words behind the head in the largest launch parameters, which are 16 KiB.
const ALL_WORDS: usize = (16384 - size_of::<Head>()) / 4;
/// Words that fit into launch parameters, behind the segments.
pub(super) const PARAMETER_WORDS: usize = ALL_WORDS - SEGMENTS * SEGMENT_WORDS;
/// The most words of a table.
pub(super) const TABLE_WORDS: usize = 32768;
/// Words of a table that a block fetches at once.
pub(super) const PIECE_WORDS: usize = 512;
/// Blocks that fetch a table, if all copies wait for it: PCIe 5 needs about 64 KiB in flight
/// (H200).
const FETCHERS: u32 = 32;
/// Blocks that fetch a table whose first words are in the parameters too: fewer, so the next words
/// arrive soon.
const FETCHERS_MIXED: u32 = 16;
/// The most chunks of one launch: 2 GiB, half of what the forms can count.
pub(super) const CHUNKS: u64 = 1 << 27;
/// The longest copy that a launch takes; the driver's copy calls take longer ones.
pub(super) const LONGEST: usize = 256 << 20;

/// The largest launch parameters of a graph, in bytes.
pub(in super::super) const LARGEST_GRAPH: usize = 4352;

/// How the words of a segment describe its copies; copy.cu explains each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Rows of one length: a source row's number each, in 32 bits.
    Rows,
    /// The same in 16 bits.
    Rows16,
    /// Copies of one length: source and destination each, in units from the bases.
    Pairs,
    /// Copies of any length: chunks, source and destination each, the last two in units from the
    /// bases.
    Ragged,
    /// The same with addresses of 64 bits.
    Wide,
    /// Bytes among the words themselves: destination, place and length each.
    Own,
    /// Copies of any length that have a block each: source, destination and length.
    Each,
}

impl Form {
    /// The number in [`Segment::form`].
    pub(super) const fn code(self) -> u32 {
        match self {
            Form::Rows => 0,
            Form::Rows16 => 1,
            Form::Pairs => 2,
            Form::Ragged => 3,
            Form::Wide => 4,
            Form::Own => 5,
            Form::Each => 6,
        }
    }

    /// The words for `count` copies; without the bytes of [`Form::Own`], and without the owners
    /// that tables have.
    pub(super) const fn words(self, count: usize) -> usize {
        match self {
            Form::Rows16 => count.div_ceil(2),
            Form::Rows => count,
            Form::Pairs => count.saturating_mul(2),
            Form::Ragged => count.saturating_mul(3),
            Form::Own => count.saturating_mul(4),
            Form::Wide | Form::Each => count.saturating_mul(5),
        }
    }

    /// How many copies `words` words describe at most: the inverse of [`words`](Form::words).
    pub(super) const fn copies(self, words: usize) -> usize {
        match self {
            Form::Rows16 => words.saturating_mul(2),
            Form::Rows => words,
            Form::Pairs => words / 2,
            Form::Ragged => words / 3,
            Form::Own => words / 4,
            Form::Wide | Form::Each => words / 5,
        }
    }
}

/// Some copies of a launch that one form describes. copy.cu explains the fields.
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
    pub(super) unit: u32,
}

impl Segment {
    /// The blocks that copy it, if a thread copies this many `groups`.
    pub(super) const fn blocks(&self, groups: u32) -> u32 {
        self.chunks.div_ceil(THREADS.wrapping_mul(groups))
    }
}

/// The beginning of a launch's parameters. copy.cu explains the fields.
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
    pub(super) along: u32,
    pub(super) starts: [u32; NEAR],
}

/// The parameters of a launch. A kernel has a prefix of them.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Parameters {
    pub(super) head: Head,
    /// The segments, and their words behind them.
    pub(super) words: [u32; ALL_WORDS],
}

impl Parameters {
    pub(super) fn new() -> Self {
        Parameters { head: Head::default(), words: [0; ALL_WORDS] }
    }

    /// The room for the words of a launch, at most `most` of them; [`put`](Parameters::put) comes
    /// after.
    pub(super) fn room(&mut self, most: usize) -> Option<&mut [u32]> {
        self.words.get_mut(SEGMENT_WORDS..)?.get_mut(..most.min(PARAMETER_WORDS))
    }

    /// Puts `segments` in front of their `words` words, which are in the
    /// [`room`](Parameters::room).
    pub(super) fn put(&mut self, segments: &[Segment], words: usize) {
        (self.head.pieces, self.head.fetchers) = (0, 0);
        let behind = segments.len().wrapping_mul(SEGMENT_WORDS);
        if behind.saturating_add(words) > ALL_WORDS || words > PARAMETER_WORDS {
            return;
        }
        // The room leaves space for one segment.
        if segments.len() > 1 {
            self.words.copy_within(SEGMENT_WORDS..SEGMENT_WORDS.wrapping_add(words), behind);
        }
        self.put_front(segments, words);
    }

    /// Puts `segments`, whose words are in `table`, which blocks of the launch fetch. At most
    /// `most` of the words are in the parameters too.
    pub(super) fn put_table(&mut self, segments: &mut [Segment], table: &[u32], most: usize) {
        let pieces = u32::try_from(table.len().div_ceil(PIECE_WORDS)).unwrap_or(u32::MAX);
        let along = table.len().min(most).min(PARAMETER_WORDS);
        let fetchers = pieces.min(if along == 0 { FETCHERS } else { FETCHERS_MIXED });
        (self.head.pieces, self.head.fetchers) = (pieces, fetchers);
        for segment in &mut *segments {
            segment.first_block = segment.first_block.wrapping_add(fetchers);
        }
        let behind = segments.len().wrapping_mul(SEGMENT_WORDS);
        if let (Some(room), Some(first)) = (self.words.get_mut(behind..behind.wrapping_add(along)), table.get(..along))
        {
            room.copy_from_slice(first);
        }
        self.put_front(segments, along);
    }

    /// Puts `segments` in front of `along` words.
    fn put_front(&mut self, segments: &[Segment], along: usize) {
        let words: &[u32] = bytemuck::cast_slice(segments);
        let others = segments.get(1..).unwrap_or_default();
        if let Some(front) = self.words.get_mut(..words.len())
            && let (Ok(segments), Ok(along)) = (u32::try_from(segments.len()), u32::try_from(along))
        {
            front.copy_from_slice(words);
            (self.head.segments, self.head.along) = (segments, along);
            self.head.starts = [u32::MAX; NEAR];
            for (start, segment) in self.head.starts.iter_mut().zip(others) {
                *start = segment.first_block;
            }
        }
    }

    /// The used words of the parameters. They have no pointers into themselves, so equal words are
    /// equal launches.
    pub(super) fn used_words(&self) -> &[u32] {
        let all: &[u32] = bytemuck::cast_slice(bytemuck::bytes_of(self));
        all.get(..self.bytes() / 4).unwrap_or(all)
    }

    /// The bytes of the parameters that are used.
    pub(super) fn bytes(&self) -> usize {
        let size = |count: u32, of: usize| usize::try_from(count).unwrap_or(usize::MAX).saturating_mul(of);
        let segments = size(self.head.segments, size_of::<Segment>());
        segments.saturating_add(size(self.head.along, 4)).saturating_add(size_of::<Head>())
    }
}

static_assertions::assert_eq_size!(Segment, [u64; 12]);
static_assertions::assert_eq_size!(Head, [u64; 7]);
static_assertions::assert_eq_size!(Parameters, [u8; 16384]);
