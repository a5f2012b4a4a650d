//! How copies are described to the kernel: segments, forms and words.
//!
//! The layouts and numbers are those of kernels/copy.cu, where they are explained.

#![forbid(unsafe_code)]

use crate::device::Copies;

/// Threads of a block.
pub(super) const THREADS: u32 = 256;
/// Segments of one launch, at most.
const SEGMENTS: usize = 4;
/// Words that fit behind a [`Head`] into the largest launch parameters, which are 16 KiB.
pub(super) const PARAMETER_WORDS: usize = (16384 - size_of::<Head>()) / 4;
/// Words of a table, at most.
pub(super) const TABLE_WORDS: usize = 32768;
/// Words of a table that a block fetches at once.
pub(super) const PIECE_WORDS: usize = 1024;
/// Fewer neighbouring copies than these are not worth a segment of their own.
const RUN: usize = 8;
/// Rows that end a region of other copies: so many that a segment for them pays.
const STREAK: usize = 64;
/// The chunks of one launch, at most: 2 GiB, half of what the forms can count.
const CHUNKS: u64 = 1 << 27;
/// The longest copy that is described: longer ones are the driver's.
pub(super) const LONGEST: usize = 256 << 20;
/// From so many bytes on a block takes larger tiles, where lengths differ (5 % of 128 MiB on an H200).
const LARGE: usize = 8 << 20;

/// The forms.
const ROWS: u32 = 0;
const ROWS_16: u32 = 1;
const PAIRS: u32 = 2;
const RAGGED: u32 = 3;
const WIDE: u32 = 4;

#[derive(Clone, Copy, Debug, Default)]
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

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Head {
    pub(super) segments: u32,
    pub(super) fetchers: u32,
    pub(super) early: u32,
    pub(super) epoch: u32,
    pub(super) table: u64,
    pub(super) fetched: u64,
    pub(super) pieces: u32,
    pub(super) pad: u32,
    pub(super) segment: [Segment; SEGMENTS],
}

/// The parameters of a launch: as much of it as the kernel's variant has.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Parameters {
    pub(super) head: Head,
    pub(super) words: [u32; PARAMETER_WORDS],
}

impl Parameters {
    pub(super) fn new() -> Self {
        Parameters { head: Head::default(), words: [0; PARAMETER_WORDS] }
    }
}

static_assertions::assert_eq_size!(Segment, [u64; 12]);
static_assertions::assert_eq_size!(Head, [u64; 53]);
static_assertions::assert_eq_size!(Parameters, [u8; 16384]);

/// One launch, described.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Launch {
    /// How many copies it carries out: the first ones.
    pub(super) copies: usize,
    /// How many words describe them.
    pub(super) words: usize,
    /// Blocks that copy.
    pub(super) blocks: u32,
    /// Bytes of shared memory.
    pub(super) shared: u32,
    /// Whether all lengths of a segment are equal and everything is a multiple of 16.
    pub(super) plain: bool,
    /// Groups of 16 bytes that a thread copies, 2 or 4.
    pub(super) groups: u32,
}

/// Describes as many of `copies` as there is room for, in `head` and `words`, which are a table if `in_table`; none of them
/// is longer than [`LONGEST`].
///
/// `None` if the first copy cannot be described: its addresses are none the kernel can be told.
pub(super) fn describe(copies: &Copies<'_>, head: &mut Head, words: &mut [u32], in_table: bool) -> Option<Launch> {
    let mut launch = Launch { plain: true, groups: 2, ..Launch::default() };
    let (mut rest, mut room, mut chunks) = (*copies, words, CHUNKS);
    head.segments = 0;
    // Where lengths differ a block's first copy depends on how much it takes, so that this is decided at the start.
    let groups = if bytes_of(copies, PARAMETER_WORDS) >= LARGE { 4 } else { 2 };
    for slot in &mut head.segment {
        let Some(region) = Region::first(&rest, room.len()) else { break };
        // A region that does not fit whole ends the launch, and one that does not fit at all starts the next one.
        let Some(fits) = region.fit(&rest, room.len(), chunks, in_table, groups) else { break };
        if launch.copies == 0 {
            launch.plain = fits.plain;
        } else if launch.plain && !fits.plain {
            // The kernel for everything takes plain segments too, but larger launches are worth one of their own.
            if groups != 2 {
                break;
            }
            launch.plain = false;
        }
        launch.groups = if launch.plain { 2 } else { groups };
        let Some((own, behind)) = room.split_at_mut_checked(fits.words) else { break };
        let mut segment = fits.segment;
        segment.first_block = launch.blocks;
        let at = narrow(launch.words)?;
        segment.words = segment.words.wrapping_add(at);
        segment.owners = segment.owners.wrapping_add(at);
        fits.write(&rest, &mut segment, own);
        let blocks = segment.chunks.div_ceil(THREADS.wrapping_mul(launch.groups));
        launch.blocks = launch.blocks.wrapping_add(blocks);
        launch.shared =
            launch.shared.max(if segment.staged == 0 { 0 } else { segment.staged.wrapping_mul(20).wrapping_add(16) });
        launch.words = launch.words.wrapping_add(fits.words);
        launch.copies = launch.copies.wrapping_add(fits.copies);
        chunks = chunks.saturating_sub(u64::from(segment.chunks));
        head.segments = head.segments.wrapping_add(1);
        *slot = segment;
        rest = behind_of(&rest, fits.copies)?;
        room = behind;
    }
    (launch.copies != 0).then_some(launch)
}

/// Neighbouring copies that are described alike.
#[derive(Clone, Copy, Debug)]
struct Region {
    copies: usize,
    /// The bytes of each copy, if they are equal.
    bytes: Option<usize>,
    /// The distance from destination to destination, if it is the same.
    dst_pitch: Option<usize>,
}

/// A region, or as much of it as there is room for.
#[derive(Clone, Copy, Debug)]
struct Fitted {
    copies: usize,
    words: usize,
    segment: Segment,
    src_shift: u32,
    dst_shift: u32,
    plain: bool,
    /// The chunks of a block, in a table of copies of different lengths.
    tile: Option<u32>,
}

impl Region {
    /// The first region of `copies`, as far as there is room for `room` words at most.
    fn first(copies: &Copies<'_>, room: usize) -> Option<Region> {
        let (&bytes, &first) = (copies.len.first()?, copies.dst.first()?);
        let run = run(copies, room.saturating_mul(2), bytes, first.addr())?;
        if run.copies >= RUN.min(copies.len.len()) {
            return Some(run);
        }
        // Copies that are no rows, up to where rows begin.
        let (mut equal, mut streak, mut end) = (true, 0_usize, 0_usize);
        let (mut before, mut before_pitch, mut before_len) = (first.addr(), 0_usize, bytes);
        for (dst, &len) in copies.dst.iter().zip(copies.len).take(room / 2) {
            let pitch = dst.addr().wrapping_sub(before);
            streak = if pitch == before_pitch && len == before_len { streak.wrapping_add(1) } else { 0 };
            equal &= len == bytes;
            end = end.wrapping_add(1);
            if streak == STREAK {
                end = end.saturating_sub(STREAK.wrapping_add(2)).max(1);
                break;
            }
            (before, before_pitch, before_len) = (dst.addr(), pitch, len);
        }
        Some(Region { copies: end, bytes: equal.then_some(bytes), dst_pitch: None })
    }

    /// What of the region fits into `room` words and `chunks` chunks.
    fn fit(&self, copies: &Copies<'_>, room: usize, chunks: u64, in_table: bool, groups: u32) -> Option<Fitted> {
        match self.bytes {
            Some(bytes) => self.fit_equal(copies, bytes, room, chunks),
            None => self.fit_ragged(copies, room, chunks, in_table, groups),
        }
    }

    fn fit_equal(&self, copies: &Copies<'_>, bytes: usize, room: usize, chunks: u64) -> Option<Fitted> {
        // Two 16-bit rows a word at best; decided again below, when the sources are known.
        let most = wide(bytes).div_ceil(16).wrapping_add(1);
        let by_chunks = usize::try_from(chunks.checked_div(most).unwrap_or(0)).unwrap_or(usize::MAX);
        let rows = self.dst_pitch.is_some();
        let mut count = self.copies.min(by_chunks).min(room.saturating_mul(2));
        let mut form = if rows { ROWS_16 } else { PAIRS };
        if !rows {
            count = count.min(room / 2);
        }
        let (src, dst) = loop {
            if count == 0 {
                return None;
            }
            let src = Extent::of(copies.src.get(..count)?.iter().map(|src| src.addr()))?;
            let dst = match self.dst_pitch {
                Some(pitch) => Extent::of_rows(copies.dst.first()?.addr(), pitch, count),
                None => Extent::of(copies.dst.get(..count)?.iter().map(|dst| dst.addr()))?,
            };
            let fits = src.units <= 0xffff;
            match form {
                ROWS_16 if !fits => form = ROWS,
                ROWS | PAIRS if src.units > 0xffff_fffe || (form == PAIRS && dst.units > 0xffff_fffe) => {
                    // Too far apart for one word: half as many may not be.
                    count /= 2;
                    continue;
                }
                _ => break (src, dst),
            }
            count = count.min(room);
        };
        let misaligned = match dst.alignment() {
            zeros if zeros >= 4 => 0,
            zeros => 16_u64.wrapping_sub(1 << zeros),
        };
        let row_chunks = wide(bytes).wrapping_add(misaligned).div_ceil(16);
        let pitch = self.dst_pitch.unwrap_or(0);
        let row_chunks_32 = u32::try_from(row_chunks).ok()?;
        let (magic, shift) = division(row_chunks_32);
        let words = match form {
            ROWS_16 => count.div_ceil(2),
            ROWS => count,
            _ => count.checked_mul(2)?,
        };
        let segment = Segment {
            src: wide(src.min),
            dst: wide(dst.min),
            src_pitch: 1 << src.shift,
            dst_pitch: if rows { wide(pitch) } else { 1 << dst.shift },
            bytes: wide(bytes),
            form,
            chunks: u32::try_from(row_chunks.checked_mul(wide(count))?).ok()?,
            row_chunks: row_chunks_32,
            magic,
            shift,
            old: u32::MAX,
            copies: narrow(count)?,
            ..Segment::default()
        };
        let plain = src.alignment().min(dst.alignment()).min(bytes.trailing_zeros()) >= 4;
        let (src_shift, dst_shift) = (src.shift, dst.shift);
        Some(Fitted { copies: count, words, segment, src_shift, dst_shift, plain, tile: None })
    }

    fn fit_ragged(&self, copies: &Copies<'_>, room: usize, chunks: u64, in_table: bool, groups: u32) -> Option<Fitted> {
        let tile = u64::from(THREADS.wrapping_mul(groups));
        let log = tile.trailing_zeros();
        let mut count = self.copies.min(room / 3);
        loop {
            if count == 0 {
                return None;
            }
            let src = Extent::of(copies.src.get(..count)?.iter().map(|src| src.addr()))?;
            let dst = Extent::of(copies.dst.get(..count)?.iter().map(|dst| dst.addr()))?;
            let wide_form = src.units > 0xffff_ffff || dst.units > 0xffff_ffff;
            let width = if wide_form { 5 } else { 3 };
            // How many of them fit, and the most that begin in one tile.
            let (mut all, mut fitting, mut staged, mut in_tile, mut tile_end) = (0_u64, 0_usize, 0_u32, 1_u32, tile);
            for (dst, &len) in copies.dst.iter().zip(copies.len).take(count) {
                let next = all.saturating_add(chunks_of(dst.addr(), len));
                let owners = if in_table { (next >> log).wrapping_add(2) } else { 0 };
                let words = owners.saturating_add(wide(fitting.wrapping_add(1)).saturating_mul(width));
                if next > chunks || words > wide(room) {
                    break;
                }
                if all >= tile_end {
                    tile_end = (all >> log).wrapping_add(1) << log;
                    staged = staged.max(in_tile);
                    // The copy that reaches into the tile, and the one that begins here.
                    in_tile = 1;
                }
                in_tile = in_tile.wrapping_add(1);
                (all, fitting) = (next, fitting.wrapping_add(1));
            }
            staged = staged.max(in_tile);
            if fitting == 0 {
                return None;
            }
            if fitting < count {
                // Fewer copies may be nearer to each other.
                count = fitting;
                continue;
            }
            let tiles = all.wrapping_add(tile.wrapping_sub(1)) >> log;
            let owners = if in_table { narrow64(tiles.wrapping_add(1))? } else { 0 };
            let segment = Segment {
                src: wide(src.min),
                dst: wide(dst.min),
                src_pitch: 1 << src.shift,
                dst_pitch: 1 << dst.shift,
                form: if wide_form { WIDE } else { RAGGED },
                chunks: narrow64(all)?,
                words: owners,
                old: u32::MAX,
                copies: narrow(count)?,
                // And the one that begins with the next tile.
                staged: staged.wrapping_add(1),
                ..Segment::default()
            };
            let words = usize::try_from(wide(count).saturating_mul(width).saturating_add(u64::from(owners))).ok()?;
            let tile = in_table.then_some(THREADS.wrapping_mul(groups));
            let (src_shift, dst_shift) = (src.shift, dst.shift);
            return Some(Fitted { copies: count, words, segment, src_shift, dst_shift, plain: false, tile });
        }
    }
}

impl Fitted {
    /// Writes the words of the region, which are all of `own`.
    fn write(&self, copies: &Copies<'_>, segment: &mut Segment, own: &mut [u32]) {
        let (src, dst) = (copies.src.iter().take(self.copies), copies.dst.iter().take(self.copies));
        let (src_min, dst_min) = (segment.src, segment.dst);
        let src_unit = |src: usize| low(wide(src).wrapping_sub(src_min) >> self.src_shift);
        let dst_unit = |dst: usize| low(wide(dst).wrapping_sub(dst_min) >> self.dst_shift);
        match segment.form {
            ROWS => {
                for (word, src) in own.iter_mut().zip(src) {
                    *word = src_unit(src.addr());
                }
            }
            ROWS_16 => {
                let mut pairs = copies.src.get(..self.copies).unwrap_or_default().chunks_exact(2);
                for (word, pair) in own.iter_mut().zip(&mut pairs) {
                    if let [a, b] = pair {
                        *word = src_unit(a.addr()) | src_unit(b.addr()) << 16;
                    }
                }
                if let ([a], Some(word)) = (pairs.remainder(), own.last_mut()) {
                    *word = src_unit(a.addr());
                }
            }
            PAIRS => {
                for ((words, src), dst) in own.chunks_exact_mut(2).zip(src).zip(dst) {
                    if let [a, b] = words {
                        *a = src_unit(src.addr());
                        *b = dst_unit(dst.addr());
                    }
                }
            }
            _ => self.write_ragged(copies, segment, own),
        }
    }

    fn write_ragged(&self, copies: &Copies<'_>, segment: &Segment, own: &mut [u32]) {
        let (src_min, dst_min) = (segment.src, segment.dst);
        let owners_len = own.len().saturating_sub(self.copies.saturating_mul(if segment.form == WIDE { 5 } else { 3 }));
        let Some((owners, own)) = own.split_at_mut_checked(owners_len) else { return };
        let Some((starts, ends)) = own.split_at_mut_checked(self.copies) else { return };
        let mut owners = owners.iter_mut();
        let (mut at, mut index, mut tile_start) = (0_u64, 0_u32, 0_u64);
        let tile = u64::from(self.tile.unwrap_or(u32::MAX));
        for ((word, dst), &len) in starts.iter_mut().zip(copies.dst).zip(copies.len) {
            let chunks = chunks_of(dst.addr(), len);
            let behind = chunks.wrapping_mul(16).wrapping_sub(wide(dst.addr() & 15).wrapping_add(wide(len)));
            *word = low(at.wrapping_mul(16).wrapping_add(behind));
            at = at.wrapping_add(chunks);
            while tile_start < at {
                match owners.next() {
                    Some(owner) => *owner = index,
                    None => break,
                }
                tile_start = tile_start.saturating_add(tile);
            }
            index = index.wrapping_add(1);
        }
        // What is left is the last copy.
        for owner in owners {
            *owner = index.wrapping_sub(1);
        }
        let src = copies.src.iter().take(self.copies);
        let dst = copies.dst.iter().take(self.copies);
        if segment.form == WIDE {
            let Some((srcs, dsts)) = ends.split_at_mut_checked(self.copies.wrapping_mul(2)) else { return };
            for (words, src) in srcs.chunks_exact_mut(2).zip(src) {
                halves(words, src.addr());
            }
            for (words, dst) in dsts.chunks_exact_mut(2).zip(dst) {
                halves(words, dst.addr());
            }
            return;
        }
        let Some((srcs, dsts)) = ends.split_at_mut_checked(self.copies) else { return };
        for (word, src) in srcs.iter_mut().zip(src) {
            *word = low(wide(src.addr()).wrapping_sub(src_min) >> self.src_shift);
        }
        for (word, dst) in dsts.iter_mut().zip(dst) {
            *word = low(wide(dst.addr()).wrapping_sub(dst_min) >> self.dst_shift);
        }
    }
}

/// The longest run of copies of `bytes` bytes from destination `first` on, as far from each other as the first two: one at
/// least, `most` at most.
fn run(copies: &Copies<'_>, most: usize, bytes: usize, first: usize) -> Option<Region> {
    // In blocks without a branch inside.
    const BLOCK: usize = 32;
    let pitch = copies.dst.get(1).map_or(0, |second| second.addr().wrapping_sub(first));
    let count = copies.len.len().min(most);
    let (dst, len) = (copies.dst.get(..count)?, copies.len.get(..count)?);
    let (mut expected, mut found) = (first, 0_usize);
    for (dst, len) in dst.chunks(BLOCK).zip(len.chunks(BLOCK)) {
        let (mut at, mut differences) = (expected, 0);
        for (dst, &len) in dst.iter().zip(len) {
            differences |= (dst.addr() ^ at) | (len ^ bytes);
            at = at.wrapping_add(pitch);
        }
        if differences != 0 {
            let same = dst.iter().zip(len).take_while(|(dst, len)| {
                let same = dst.addr() == expected && **len == bytes;
                expected = expected.wrapping_add(pitch);
                same
            });
            found = found.wrapping_add(same.count());
            break;
        }
        (expected, found) = (at, found.wrapping_add(len.len()));
    }
    Some(Region { copies: found, bytes: Some(bytes), dst_pitch: Some(pitch) })
}

/// The bytes of the first `n` copies, none of which is longer than [`LONGEST`].
pub(super) fn bytes_of(copies: &Copies<'_>, n: usize) -> usize {
    copies.len.iter().take(n).fold(0, |sum: usize, &len| sum.wrapping_add(len))
}

/// Where addresses lie.
#[derive(Clone, Copy, Debug)]
struct Extent {
    /// What they are told from: not above the lowest.
    min: usize,
    /// All distances from `min` are multiples of two to this.
    shift: u32,
    /// At least the largest distance, in such units.
    units: usize,
}

impl Extent {
    fn of(addresses: impl Iterator<Item = usize> + Clone) -> Option<Extent> {
        let first = addresses.clone().next()?;
        let bits = addresses.clone().fold(0, |bits, address| bits | (address ^ first));
        if bits == 0 {
            return Some(Extent { min: first, shift: 0, units: 0 });
        }
        let shift = bits.trailing_zeros();
        // Most of the time it is enough to know the bits that differ: everything is in one aligned block.
        let inside = usize::MAX.checked_shr(bits.leading_zeros()).unwrap_or(0);
        let unit = 1_usize << shift;
        if inside >> shift <= 0xffff {
            return Some(Extent { min: first & !(inside & !unit.wrapping_sub(1)), shift, units: inside >> shift });
        }
        let (min, max) = addresses.fold((first, first), |(min, max), address| (min.min(address), max.max(address)));
        Some(Extent { min, shift, units: max.wrapping_sub(min) >> shift })
    }

    /// `count` addresses from `first` on, as far from each other as `pitch` says: told by `first` and `pitch`.
    fn of_rows(first: usize, pitch: usize, count: usize) -> Extent {
        let apart = count > 1 && pitch != 0;
        Extent { min: first, shift: if apart { pitch.trailing_zeros() } else { 0 }, units: usize::from(apart) }
    }

    /// All addresses are multiples of two to this.
    fn alignment(&self) -> u32 {
        let zeros = self.min.trailing_zeros();
        if self.units == 0 { zeros } else { zeros.min(self.shift) }
    }
}

/// The copies from the `n`th on.
pub(super) fn behind_of<'a>(copies: &Copies<'a>, n: usize) -> Option<Copies<'a>> {
    let (dst, src, len) = (copies.dst.get(n..)?, copies.src.get(n..)?, copies.len.get(n..)?);
    Some(Copies { dst, src, len, during_call: copies.during_call.saturating_sub(n) })
}

/// The aligned groups of 16 bytes that a destination touches.
fn chunks_of(dst: usize, len: usize) -> u64 {
    wide(dst & 15).wrapping_add(wide(len)).div_ceil(16)
}

/// How a number below 2^31 is divided by `by`: times the first, right by 31 and by the second.
///
/// With `2^(l-1) < by <= 2^l` the first is `2^(31+l) / by + 1`, which is at most 2^32 - 1 as `by > 2^(l-1)`, and too large by
/// at most `by` parts of 2^(31+l): less than one in a product with a number below 2^31.
pub(super) fn division(by: u32) -> (u32, u32) {
    let shift = if by <= 1 { 0 } else { 32_u32.wrapping_sub(by.wrapping_sub(1).leading_zeros()) };
    let magic = (1_u64 << 31_u32.wrapping_add(shift)).checked_div(u64::from(by)).unwrap_or(0).wrapping_add(1);
    (low(magic), shift)
}

fn halves(words: &mut [u32], address: usize) {
    if let [low_half, high_half] = words {
        *low_half = low(wide(address));
        *high_half = low(wide(address) >> 32);
    }
}

/// The low 32 bits.
#[inline]
fn low(number: u64) -> u32 {
    let [a, b, c, d, ..] = number.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[inline]
fn wide(number: usize) -> u64 {
    u64::from_le_bytes(number.to_le_bytes())
}

fn narrow(number: usize) -> Option<u32> {
    u32::try_from(number).ok()
}

fn narrow64(number: u64) -> Option<u32> {
    u32::try_from(number).ok()
}
