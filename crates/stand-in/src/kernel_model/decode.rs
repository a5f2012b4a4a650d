//! From the parameters of a launch to its copies, with a check of every assumption of the kernel.

use super::{
    EACH, OWN, PAIRS, RAGGED, ROWS, ROWS_16, THREADS,
    layout::{Parameters, Segment, Variant, size},
};

/// One copy, by the addresses that the program uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) src: Source,
    pub(crate) dst: u64,
    pub(crate) bytes: u64,
}

/// Where the bytes of a copy are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Memory(u64),
    /// In the parameters: these.
    Own(Box<[u8]>),
}

/// The dynamic shared memory that a block may have unless an attribute of the function raises it.
const MOST_SHARED: u32 = 48 << 10;

/// The chunks of a segment end here, where lengths are equal, and where they differ.
const CHUNKS: u64 = 1 << 31;
const CHUNKS_RAGGED: u64 = 1 << 28;

/// Why a launch cannot be meant.
type Complaint = String;

/// Looks at everything that the words have no part in.
///
/// # Errors
/// What is wrong, in words.
pub(crate) fn check(p: &Parameters, variant: Variant, shape: &super::Shape) -> Result<(), Complaint> {
    let head = &p.head;
    demand(shape.block == [THREADS, 1, 1], || format!("a block has {:?} threads", shape.block))?;
    demand(shape.shared_bytes <= MOST_SHARED, || format!("{} bytes of shared memory", shape.shared_bytes))?;
    let table = [head.table, head.fetched, u64::from(head.fetchers), u64::from(head.pieces)];
    if !variant.in_table {
        demand(table == [0; 4], || format!("a table is named beside words in the parameters: {head:?}"))?;
    } else if head.fetched == 0 {
        demand(head.table != 0 && head.table.is_multiple_of(4), || format!("the table lies at {:#x}", head.table))?;
        demand(table.get(2..) == Some(&[0, 0]), || format!("blocks fetch from nowhere to nowhere: {head:?}"))?;
    } else {
        // Fetched by 16 bytes, and written with their tags by 8.
        let aligned = head.table.is_multiple_of(16) && head.fetched.is_multiple_of(8);
        demand(head.table != 0 && aligned, || format!("the table is fetched from or to an odd address: {head:?}"))?;
        let some = 0 < head.fetchers && head.fetchers <= head.pieces;
        demand(some, || format!("{} blocks fetch {} pieces", head.fetchers, head.pieces))?;
        demand(head.epoch != 0, || "a launch with a table that is fetched has no number".to_owned())?;
    }
    demand(!p.segments.is_empty(), || "there are no segments".to_owned())?;
    let seen = !variant.single || p.segments.len() == 1;
    demand(seen, || format!("this kernel sees one of {} segments", p.segments.len()))?;
    let mut block = head.fetchers;
    for (index, segment) in p.segments.iter().enumerate() {
        let complain = |words: Complaint| format!("segment {index}: {words}: {segment:?}");
        demand(segment.first_block == block, || format!("it begins at another block than {block}"))
            .map_err(complain)?;
        let near = index.checked_sub(1).and_then(|near| head.starts.get(near));
        demand(near.is_none_or(|start| *start == block), || format!("the head says that it begins at block {near:?}"))
            .map_err(complain)?;
        segment.check(variant).map_err(complain)?;
        block = block.saturating_add(segment.blocks(variant.tile()));
    }
    let absent = head.starts.get(p.segments.len().saturating_sub(1)..).unwrap_or_default();
    demand(absent.iter().all(|start| *start >= block), || format!("blocks are sent to no segment: {:?}", head.starts))?;
    demand(shape.grid == [block, 1, 1], || format!("{:?} blocks are launched where {block} have work", shape.grid))
}

/// All copies of a launch.
///
/// # Errors
/// What is wrong with the words, in words.
pub(crate) fn copies(p: &Parameters, variant: Variant, shared: u32, words: &[u32]) -> Result<Vec<Move>, Complaint> {
    let mut moves = Vec::new();
    for (index, segment) in p.segments.iter().enumerate() {
        let read = Reader { segment, variant, shared, words };
        let answer = match segment.form {
            ROWS | ROWS_16 | PAIRS => read.equal(&mut moves),
            OWN => read.own_copies(&mut moves),
            EACH => read.block_each(&mut moves),
            _ => read.ragged(&mut moves),
        };
        answer.map_err(|complaint| format!("segment {index}: {complaint}: {segment:?}"))?;
    }
    Ok(moves)
}

impl Segment {
    fn check(&self, variant: Variant) -> Result<(), Complaint> {
        let all = u64::from(self.chunks);
        demand(self.copies != 0 && all != 0, || "there is nothing to copy".to_owned())?;
        if self.form > PAIRS {
            demand(self.form <= EACH, || "there is no such form".to_owned())?;
            let takes = !variant.plain && !variant.unit && self.unit == 0;
            demand(takes, || "copies of different lengths are not for this kernel".to_owned())?;
        }
        if self.form == OWN || self.form == EACH {
            let takes = self.form == EACH || !variant.in_table;
            demand(takes, || "bytes are where this kernel takes none from".to_owned())?;
            let needed = u64::from(self.copies).wrapping_mul(u64::from(variant.tile()));
            return demand(all == needed, || format!("a block each is {needed} chunks"));
        }
        if self.form > PAIRS {
            return demand(all < CHUNKS_RAGGED, || "too many chunks".to_owned());
        }
        demand(all < CHUNKS, || "too many chunks".to_owned())?;
        let known = if variant.unit { self.unit != 0 } else { !variant.plain || self.unit == 0 };
        let known = known && [0, 1, 4].contains(&self.unit);
        demand(known, || format!("chunks of {} bytes are not for this kernel", self.unit))?;
        let together = u64::from(self.copies).wrapping_mul(u64::from(self.row_chunks));
        demand(together == all, || format!("its copies have {together} chunks together"))?;
        // A quotient never falls when the number grows, so that it is right in between where it is
        // at both ends.
        for copy in 0..self.copies {
            let first = copy.wrapping_mul(self.row_chunks);
            for chunk in [first, first.wrapping_add(self.row_chunks).wrapping_sub(1)] {
                let product = u64::from(chunk).wrapping_mul(u64::from(self.magic)) >> 31;
                let found = product.checked_shr(self.shift);
                demand(found == Some(u64::from(copy)), || format!("chunk {chunk} is taken to be of copy {found:?}"))?;
            }
        }
        Ok(())
    }

    /// Where row `row` comes from; `None` if its destination is left alone.
    fn row(&self, row: u32) -> Option<u64> {
        if row < self.old {
            return Some(self.src.wrapping_add(u64::from(row).wrapping_mul(self.src_pitch)));
        }
        let of_second = u64::from(row.wrapping_sub(self.old)).wrapping_mul(self.src_pitch);
        (self.second != 0).then(|| self.second.wrapping_add(of_second))
    }
}

/// Reads the words of one segment.
struct Reader<'a> {
    segment: &'a Segment,
    variant: Variant,
    /// Bytes of shared memory.
    shared: u32,
    words: &'a [u32],
}

impl Reader<'_> {
    fn word(&self, index: usize) -> Result<u32, Complaint> {
        self.words
            .get(index)
            .copied()
            .ok_or_else(|| format!("word {index} is used where there are {}", self.words.len()))
    }

    /// The word `index` of the segment.
    fn own(&self, index: usize) -> Result<u32, Complaint> {
        self.word(size(self.segment.words).saturating_add(index))
    }

    /// Copies of one length.
    fn equal(&self, moves: &mut Vec<Move>) -> Result<(), Complaint> {
        let Segment { src, dst, src_pitch, dst_pitch, bytes, form, .. } = *self.segment;
        for copy in 0..self.segment.copies {
            let i = size(copy);
            let row_dst = dst.wrapping_add(u64::from(copy).wrapping_mul(dst_pitch));
            let (from, to) = match form {
                ROWS => (self.segment.row(self.own(i)?), row_dst),
                ROWS_16 => {
                    // The lower half is the first of two.
                    let [low_0, low_1, high_0, high_1] = self.own(i / 2)?.to_le_bytes();
                    let half = if i.is_multiple_of(2) { [low_0, low_1] } else { [high_0, high_1] };
                    (self.segment.row(u32::from(u16::from_le_bytes(half))), row_dst)
                }
                _ => {
                    let (a, b) = (self.own(i.saturating_mul(2))?, self.own(i.saturating_mul(2).saturating_add(1))?);
                    let from = src.wrapping_add(u64::from(a).wrapping_mul(src_pitch));
                    (Some(from), dst.wrapping_add(u64::from(b).wrapping_mul(dst_pitch)))
                }
            };
            let Some(from) = from else { continue };
            let unit = u64::from(self.segment.unit);
            let room = u64::from(self.segment.row_chunks).wrapping_mul(if unit == 0 { 16 } else { unit });
            let misfit = |what: &str| format!("copy {copy}, {bytes} bytes from {from:#x} to {to:#x}, {what}");
            if self.variant.plain {
                // The plain kernels move whole chunks, whatever the length is said to be.
                let plain = (from | to | bytes).is_multiple_of(16) && room == bytes;
                demand(plain, || misfit("is not plain"))?;
            }
            if unit == 0 {
                let needed = (to & 15).saturating_add(bytes);
                demand(needed <= room, || misfit("does not fit into its chunks"))?;
            } else {
                let whole = (from | to).is_multiple_of(unit) && room == bytes;
                demand(whole, || misfit("is not made of its chunks"))?;
            }
            moves.push(Move { src: Source::Memory(from), dst: to, bytes });
        }
        Ok(())
    }

    /// Copies of bytes that are among the words, behind what describes them.
    fn own_copies(&self, moves: &mut Vec<Move>) -> Result<(), Complaint> {
        let mut free = size(self.segment.copies).saturating_mul(4);
        for copy in 0..size(self.segment.copies) {
            let at = |word: usize| self.own(copy.saturating_mul(4).saturating_add(word));
            let (dst, from, len) = (u64::from(at(0)?) | u64::from(at(1)?) << 32, size(at(2)?), size(at(3)?));
            demand(len != 0, || format!("copy {copy} has no bytes"))?;
            demand(from == free, || format!("the bytes of copy {copy} begin with word {from} instead of {free}"))?;
            free = free.saturating_add(len.div_ceil(4));
            let words = (from..free).map(|word| self.own(word)).collect::<Result<Vec<_>, _>>()?;
            let bytes = words.into_iter().flat_map(u32::to_le_bytes).take(len).collect();
            moves.push(Move { src: Source::Own(bytes), dst, bytes: u64::from(at(3)?) });
        }
        Ok(())
    }

    /// Copies each of which is a block's.
    fn block_each(&self, moves: &mut Vec<Move>) -> Result<(), Complaint> {
        let room = u64::from(self.variant.tile()).wrapping_mul(16);
        for copy in 0..size(self.segment.copies) {
            let at = |word: usize| self.own(copy.saturating_mul(5).saturating_add(word));
            let address =
                |word: usize| Ok::<u64, Complaint>(u64::from(at(word)?) | u64::from(at(word.saturating_add(1))?) << 32);
            let (src, dst, bytes) = (address(0)?, address(2)?, u64::from(at(4)?));
            let needed = (dst & 15).saturating_add(bytes);
            demand(bytes != 0 && needed <= room, || format!("copy {copy} has {bytes} bytes, for a block of {room}"))?;
            moves.push(Move { src: Source::Memory(src), dst, bytes });
        }
        Ok(())
    }

    /// The word with the first chunk of copy `i` and what its last chunk has too much.
    fn start(&self, i: usize) -> Result<u32, Complaint> {
        if i >= size(self.segment.copies) { Ok(self.segment.chunks.wrapping_mul(16)) } else { self.own(i) }
    }

    /// Copies of any length.
    fn ragged(&self, moves: &mut Vec<Move>) -> Result<(), Complaint> {
        let Segment { src, dst, src_pitch, dst_pitch, form, .. } = *self.segment;
        let n = size(self.segment.copies);
        // For each copy, behind its last chunk.
        let mut ends = Vec::with_capacity(n);
        let mut begins = 0;
        for i in 0..n {
            let (from, to) = if form == RAGGED {
                let (a, b) = (self.own(n.saturating_add(i))?, self.own(n.saturating_mul(2).saturating_add(i))?);
                let from = src.wrapping_add(u64::from(a).wrapping_mul(src_pitch));
                (from, dst.wrapping_add(u64::from(b).wrapping_mul(dst_pitch)))
            } else {
                let address = |array: usize| {
                    let at = n.saturating_mul(array).saturating_add(i.saturating_mul(2));
                    let (low, high) = (self.own(at)?, self.own(at.saturating_add(1))?);
                    Ok::<u64, Complaint>(u64::from(low) | u64::from(high) << 32)
                };
                (address(1)?, address(3)?)
            };
            let (word, next) = (self.start(i)?, self.start(i.saturating_add(1))? >> 4);
            let first = word >> 4;
            demand(first == begins, || format!("copy {i} begins with chunk {first} instead of {begins}"))?;
            demand(next >= first, || format!("copy {i} ends with chunk {next}, before it begins with {first}"))?;
            let room = u64::from(next.wrapping_sub(first)).wrapping_mul(16);
            let beside = (to & 15).wrapping_add(u64::from(word & 15));
            // A copy without a chunk is never found.
            if room > 0 {
                let bytes = room.checked_sub(beside).ok_or_else(|| format!("copy {i} has less than no bytes"))?;
                moves.push(Move { src: Source::Memory(from), dst: to, bytes });
            }
            ends.push(next);
            begins = next;
        }
        demand(begins == self.segment.chunks, || format!("the copies have {begins} chunks"))?;
        self.blocks(&ends)
    }

    /// What each block stages: the copies that its chunks are of.
    fn blocks(&self, ends: &[u32]) -> Result<(), Complaint> {
        let Segment { chunks, owners, staged, .. } = *self.segment;
        let (tile, last_copy) = (self.variant.tile(), ends.len().saturating_sub(1));
        let copy_of = |chunk: u32| ends.partition_point(|end| *end <= chunk);
        let blocks = self.segment.blocks(tile);
        for block in 0..blocks {
            let begin = block.wrapping_mul(tile);
            let (first, last) = (copy_of(begin), copy_of(chunks.min(begin.wrapping_add(tile)).wrapping_sub(1)));
            let mut last_staged = last;
            if self.variant.in_table {
                let owner = |block: u32| self.word(size(owners).saturating_add(size(block)));
                let (one, other) = (size(owner(block)?), size(owner(block.wrapping_add(1))?));
                demand(one == first, || format!("block {block} begins with copy {one} instead of {first}"))?;
                let expected =
                    if block.wrapping_add(1) == blocks { last_copy } else { copy_of(begin.wrapping_add(tile)) };
                demand(other == expected, || format!("block {block} ends with {other} instead of {expected}"))?;
                last_staged = other;
            }
            let count = last_staged.saturating_sub(first).saturating_add(1);
            demand(count <= size(staged), || format!("block {block} stages {count} copies"))?;
            // Sources and destinations of 8 bytes for as many as there is room for, and a word for
            // each and one behind.
            let bytes = size(staged).saturating_mul(16).saturating_add(count.saturating_add(1).saturating_mul(4));
            let shared = self.shared;
            demand(bytes <= size(shared), || format!("block {block} stages {bytes} bytes in {shared}"))?;
        }
        Ok(())
    }
}

fn demand(met: bool, complaint: impl FnOnce() -> Complaint) -> Result<(), Complaint> {
    if met { Ok(()) } else { Err(complaint()) }
}
