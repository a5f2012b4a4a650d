//! Descriptions, decoded as the kernel decodes them, carry out the batch.

use core::ptr::{self, NonNull};
use std::rc::Rc;

use proptest::prelude::*;

use super::{
    encode::encode,
    extent::division,
    layout::{Form, Parameters, SEGMENT_WORDS, Segment, TABLE_WORDS, THREADS},
    remaining::{Budget, Launch, Remaining},
};
use tidelock_driver::{CopyBatch, RowGather, RowGathers};

mod each;
mod front;
mod payload;
mod ragged;
mod scatter;
mod source;
mod split;
mod units;

/// The forms as segments have them.
const ROWS_16: u32 = Form::Rows16.code();
const PAIRS: u32 = Form::Pairs.code();
const RAGGED: u32 = Form::Ragged.code();
const OWN: u32 = Form::Own.code();
const EACH: u32 = Form::Each.code();

/// The addresses at which the model's memory begins: sources, and destinations.
const SRC: usize = 0x7f00_0000_1000;
const DST: usize = 0x7f40_0000_0000;
const ROOM: usize = 1 << 21;

/// A batch of copies and gathers inside the model's memory.
#[derive(Clone, Debug, Default)]
struct Batch {
    dst: Vec<*mut u8>,
    src: Vec<*const u8>,
    len: Vec<usize>,
    gathers: Vec<RowGather>,
    /// The numbers of the gathers. Clones share them, so addresses stay valid.
    numbers: Vec<Rc<[u32]>>,
}

impl Batch {
    fn push(&mut self, dst: usize, src: usize, len: usize) {
        self.dst.push(ptr::without_provenance_mut(dst));
        self.src.push(ptr::without_provenance(src));
        self.len.push(len);
    }

    /// Rows of `bytes` bytes by `numbers`, all below `bound`; those from `old` on are rows of
    /// `joining`.
    fn push_gather(
        &mut self,
        dst: usize,
        src: usize,
        joining: usize,
        bytes: usize,
        (old, bound): (u32, u32),
        numbers: &[u32],
    ) {
        let numbers: Rc<[u32]> = numbers.into();
        let (to, from) = (ptr::without_provenance_mut(dst), ptr::without_provenance(src));
        let mut gather = RowGather::new(to, from, bytes);
        gather.joining = ptr::without_provenance(joining);
        (gather.old, gather.bound) = (old, bound);
        gather.bits = numbers.iter().fold(0, |bits, number| bits | number);
        gather.rows = numbers.len();
        gather.numbers = Some(NonNull::from(&*numbers));
        self.gathers.push(gather);
        self.numbers.push(numbers);
    }

    fn copies(&self) -> CopyBatch<'_> {
        let Batch { dst, src, len, gathers, .. } = self;
        // SAFETY:
        // - The numbers belong to `self`, which is borrowed, and are as many as there are rows.
        let gathers = unsafe { RowGathers::new(gathers) };
        CopyBatch::new(dst, src, len, len.len()).with_gathers(gathers)
    }

    /// The address that each byte of the destination is a copy of, computed naively.
    fn expected(&self) -> Vec<usize> {
        let mut bytes = vec![0; ROOM];
        for ((dst, src), &len) in self.dst.iter().zip(&self.src).zip(&self.len) {
            for i in 0..len {
                bytes[dst.addr() - DST + i] = src.addr() + i;
            }
        }
        for (m, numbers, targets) in self.copies().gathers.with_targets() {
            for (row, &number) in numbers.unwrap().iter().enumerate() {
                let row = targets.map_or(row, |targets| targets[row] as usize);
                let src = match number.checked_sub(m.old) {
                    None => m.src.addr() + number as usize * m.src_pitch,
                    Some(_) if m.joining.is_null() => continue,
                    Some(number) => m.joining.addr() + number as usize * m.src_pitch,
                };
                for i in 0..m.bytes {
                    bytes[m.dst.addr() - DST + row * m.dst_pitch + i] = src + i;
                }
            }
        }
        bytes
    }

    /// The same, computed from the launches that describe the batch.
    fn described(&self, in_table: bool) -> Vec<usize> {
        let mut bytes = vec![0; ROOM];
        let mut rest = Remaining::new(self.copies());
        while !rest.is_empty() {
            // Words that the description does not write must not be read.
            let mut table = vec![0xdead_beef; TABLE_WORDS];
            let (launch, parameters) = described(&rest, in_table.then_some(&mut table));
            assert!(launch.gathers + launch.rows + launch.copies > 0 && launch.words <= TABLE_WORDS);
            if in_table {
                let along = parameters.head.along as usize;
                assert_eq!(words_of(&parameters)[..along], table[..along]);
                assert!(along >= launch.words.min(2) || !launch.plain);
                assert!(along <= launch.words && (along == 0 || launch.plain));
            }
            let words = if in_table { &table } else { words_of(&parameters) };
            let tile = THREADS * launch.groups;
            let mut blocks = parameters.head.fetchers;
            for segment in &segments(&parameters) {
                assert_eq!(segment.first_block, blocks);
                blocks += segment.chunks.div_ceil(tile);
                for block in 0..segment.chunks.div_ceil(tile) {
                    run_block(segment, &words[..launch.words], in_table, block, tile, launch.plain, &mut bytes);
                }
                if segment.form == 3 || segment.form == 4 {
                    assert!(launch.shared >= 20 * segment.staged + 4);
                }
            }
            assert_eq!(blocks, launch.blocks + parameters.head.fetchers);
            rest = rest.behind(&launch).unwrap();
        }
        bytes
    }
}

fn described(rest: &Remaining<'_>, table: Option<&mut Vec<u32>>) -> (Launch, Parameters) {
    let mut parameters = Parameters::new();
    parameters.words.fill(0xdead_beef);
    let launch = encode(rest, &mut parameters, table.map(|table| &mut table[..]), Budget::ALL).expect("a description");
    assert!(parameters.bytes() <= size_of::<Parameters>());
    (launch, parameters)
}

fn segments(parameters: &Parameters) -> Vec<Segment> {
    let words = &parameters.words[..parameters.head.segments as usize * SEGMENT_WORDS];
    words.chunks(SEGMENT_WORDS).map(|words| bytemuck::pod_read_unaligned(bytemuck::cast_slice(words))).collect()
}

/// The words behind the segments.
fn words_of(parameters: &Parameters) -> &[u32] {
    &parameters.words[parameters.head.segments as usize * SEGMENT_WORDS..]
}

/// Carries out a block of the kernel, chunk by chunk.
fn run_block(h: &Segment, words: &[u32], in_table: bool, block: u32, tile: u32, plain: bool, bytes: &mut [usize]) {
    let word = |at: u32| u64::from(words[at as usize]);
    let (first, end) = (block * tile, h.chunks.min(block * tile + tile));
    let n = h.copies;
    let start = |i: u32| if i < n { word(h.words + i) } else { u64::from(h.chunks) * 16 };
    if h.form == OWN {
        assert!(!plain && !in_table && h.chunks == n * tile);
        let at = |i: u32| word(h.words + 4 * block + i);
        for i in 0..at(3) {
            let byte = word(h.words + at(2) as u32 + i as u32 / 4) as usize >> (i % 4 * 8) & 0xff;
            let to = &mut bytes[(at(0) | at(1) << 32) as usize + i as usize - DST];
            assert_eq!(*to, 0, "written twice");
            *to = payload::OWN_BYTE | byte;
        }
        return;
    }
    if h.form == EACH {
        assert!(!plain && h.chunks == n * tile);
        let at = |i: u32| word(h.words + 5 * block + i);
        let (src, dst, len) = ((at(0) | at(1) << 32) as usize, (at(2) | at(3) << 32) as usize, at(4) as usize);
        assert!(len + dst % 16 <= tile as usize * 16);
        for i in 0..len {
            assert_eq!(bytes[dst + i - DST], 0, "written twice");
            bytes[dst + i - DST] = src + i;
        }
        return;
    }
    let (mut first_copy, mut last_copy) = (0, 0);
    if h.form > 2 {
        first_copy = (0..n).rev().find(|&i| start(i) >> 4 <= u64::from(first)).unwrap();
        last_copy = (0..n).rev().find(|&i| start(i) >> 4 < u64::from(end)).unwrap();
        if in_table {
            assert_eq!(word(h.owners + block), u64::from(first_copy));
            let next = word(h.owners + block + 1) as u32;
            assert!(next >= last_copy && next <= last_copy + 1 && next < n);
            last_copy = next;
        }
        assert!(last_copy - first_copy < h.staged, "more copies than there is room for");
    }
    for at in first..end {
        let (src, dst, len, chunk);
        if h.form <= 2 {
            let i = ((u64::from(at) * u64::from(h.magic)) >> 31 >> h.shift) as u32;
            assert_eq!(i, at / h.row_chunks);
            chunk = u64::from(at - i * h.row_chunks);
            len = h.bytes;
            let row = match h.form {
                0 => word(h.words + i),
                1 => word(h.words + i / 2) >> (i % 2 * 16) & 0xffff,
                _ => word(h.words + 2 * i),
            };
            src = match row.checked_sub(u64::from(h.old)) {
                None => h.src + row * h.src_pitch,
                Some(_) if h.second == 0 => continue,
                Some(row) => h.second + row * h.src_pitch,
            };
            dst = if h.form == 2 {
                h.dst + word(h.words + 2 * i + 1) * h.dst_pitch
            } else {
                h.dst.wrapping_add(u64::from(i).wrapping_mul(h.dst_pitch))
            };
        } else {
            let i = (first_copy..=last_copy).rev().find(|&i| start(i) >> 4 <= u64::from(at)).unwrap();
            (src, dst) = if h.form == 3 {
                (h.src + word(h.words + n + i) * h.src_pitch, h.dst + word(h.words + 2 * n + i) * h.dst_pitch)
            } else {
                let two = |at: u32| word(at) | word(at + 1) << 32;
                (two(h.words + n + 2 * i), two(h.words + 3 * n + 2 * i))
            };
            let (from, to) = (start(i) >> 4, start(i + 1) >> 4);
            chunk = u64::from(at) - from;
            len = (to - from) * 16 - (dst & 15) - (start(i) & 15);
        }
        if plain {
            assert_eq!((src | dst | len) & 15 | u64::from(h.unit), 0);
        }
        if h.unit != 0 {
            let unit = u64::from(h.unit);
            assert!((src | dst | len).is_multiple_of(unit) && (chunk + 1) * unit <= len);
            for byte in chunk * unit..chunk * unit + unit {
                assert_eq!(bytes[(dst + byte) as usize - DST], 0, "written twice");
                bytes[(dst + byte) as usize - DST] = (src + byte) as usize;
            }
            continue;
        }
        let before = dst & 15;
        for byte in (chunk * 16).max(before)..(chunk * 16 + 16).min(before + len) {
            let to = &mut bytes[(dst - before + byte) as usize - DST];
            assert_eq!(*to, 0, "written twice");
            *to = (src - before + byte) as usize;
        }
    }
}

fn check(batch: &Batch) {
    let expected = batch.expected();
    for in_table in [false, true] {
        assert_eq!(batch.described(in_table), expected);
    }
}

/// Batches of a few kinds: rows, scattered copies of one length, and copies of any length;
/// destinations never overlap.
fn batches() -> impl Strategy<Value = Batch> {
    let part = (0..4_u8, 1..400_usize, 0..14_u32, 0..5_u32, any::<u64>());
    prop::collection::vec(part, 1..5).prop_map(|parts| {
        let mut batch = Batch::default();
        let mut to = DST;
        for (kind, count, log, align, seed) in parts {
            let align = 1_usize << align;
            let mut state = seed | 1;
            let mut random = |below: usize| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) as usize % below.max(1)
            };
            let bytes = 1 + random(1 << log);
            let gap = random(3) * align;
            if kind == 3 {
                to = to.next_multiple_of(align);
                let count = count.min((DST + ROOM).saturating_sub(to) / bytes);
                if count == 0 {
                    continue;
                }
                let bound = 1 + random(100_000);
                let old = random(bound + 1) as u32;
                let numbers: Vec<u32> = (0..count).map(|_| random(bound) as u32).collect();
                let joining = if random(2) == 0 { 0 } else { SRC + 0x8000_0000 + random(1 << 20) / align * align };
                let src = SRC + random(1 << 20) / align * align;
                batch.push_gather(to, src, joining, bytes, (old, bound as u32), &numbers);
                to += count * bytes;
                continue;
            }
            for _ in 0..count {
                let len = if kind == 2 { 1 + random(1 << log) } else { bytes };
                to = to.next_multiple_of(align) + if kind == 1 { random(4) * align } else { gap };
                if to + len > DST + ROOM {
                    break;
                }
                let src = SRC + random((1 << 20) / align) * align;
                batch.push(to, src, len);
                to += len;
            }
        }
        batch
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn descriptions_mean_what_the_batch_says(batch in batches()) {
        check(&batch);
    }
}

#[test]
fn rows_take_half_a_word_each_and_one_launch() {
    let mut batch = Batch::default();
    for i in 0..1024 {
        batch.push(DST + i * 1024, SRC + (i * 389 % 1024) * 2048, 1024);
    }
    let (launch, parameters) = described(&Remaining::new(batch.copies()), None);
    assert_eq!((launch.copies, launch.words, launch.plain), (1024, 512, true));
    let segments = segments(&parameters);
    assert_eq!(segments.len(), 1);
    assert_eq!((segments[0].form, segments[0].src_pitch), (1, 2048));
    check(&batch);
}

#[test]
fn states_that_are_repacked_alike_share_their_numbers_and_a_launch() {
    let numbers: Vec<u32> = (0..256).map(|i| i * 113 % 300).collect();
    let mut batch = Batch::default();
    for (state, bytes) in [4, 8, 4, 512, 1024, 16].into_iter().enumerate() {
        batch.push_gather(DST + state * 0x4_0000, SRC + state * 0x4_0000, SRC + 0x40_0000, bytes, (280, 300), &numbers);
        if state > 0 {
            batch.gathers[state].numbers = batch.gathers[0].numbers;
        }
    }
    let (launch, parameters) = described(&Remaining::new(batch.copies()), None);
    assert_eq!((launch.gathers, launch.words, launch.plain), (6, 128, false));
    assert_eq!(segments(&parameters).len(), 6);
    check(&batch);
}

#[test]
fn rows_that_join_nothing_are_left_as_they_are() {
    let mut batch = Batch::default();
    batch.push_gather(DST, SRC, 0, 24, (5, 9), &[8, 0, 4, 5, 5, 1, 6, 2, 3, 7]);
    check(&batch);
    // Row numbers of 16 bits use all of them.
    let mut batch = Batch::default();
    batch.push_gather(DST, SRC, SRC + 0x20_0000, 3, (65_535, 65_536), &[65_535, 65_534, 0]);
    assert_eq!(segments(&described(&Remaining::new(batch.copies()), None).1)[0].form, 1);
    check(&batch);
    let mut batch = Batch::default();
    batch.push_gather(DST, SRC, SRC + 0x20_0000, 3, (65_535, 65_537), &[65_536, 65_534, 1]);
    assert_eq!(segments(&described(&Remaining::new(batch.copies()), None).1)[0].form, 0);
    check(&batch);
}

#[test]
fn every_second_row_has_a_number_of_16_bits() {
    let numbers: Vec<u32> = (0..1000).map(|i| i * 7919 % 60_000 * 2).collect();
    for (old, joining) in [(100_000, SRC + 0x20_0000), (99_999, 0), (119_999, 0), (0, SRC + 0x20_0000)] {
        let mut batch = Batch::default();
        batch.push_gather(DST, SRC, joining, 5, (old, 120_000), &numbers);
        let segments = segments(&described(&Remaining::new(batch.copies()), None).1);
        assert_eq!((segments.len(), segments[0].form, segments[0].src_pitch), (1, 1, 10));
        check(&batch);
    }
    // The number from which rows join counts too.
    let mut batch = Batch::default();
    batch.push_gather(DST, SRC, SRC + 0x20_0000, 5, (100_001, 120_000), &numbers);
    assert_eq!(segments(&described(&Remaining::new(batch.copies()), None).1)[0].form, 0);
    check(&batch);
}

#[test]
fn a_gather_goes_on_in_the_next_launch() {
    let mut batch = Batch::default();
    let numbers: Vec<u32> = (0..100_000).map(|i| i * 7919 % 100_003).collect();
    batch.push_gather(DST, SRC, SRC + 0x20_0000, 5, (90_000, 100_003), &numbers);
    batch.push_gather(DST + 0x10_0000, SRC, SRC + 0x20_0000, 7, (90_000, 100_003), &numbers[..90_000]);
    batch.push(DST + ROOM - 9, SRC + 5, 9);
    check(&batch);
}

#[test]
fn a_decode_step_is_one_launch() {
    let mut batch = Batch::default();
    for i in 0..256 {
        batch.push(DST + i, SRC + i * 113 % 256, 1);
    }
    for i in 0..256 {
        batch.push(DST + 4096 + i * 4, SRC + 4096 + i * 113 % 256 * 4, 4);
    }
    for i in 0..14 {
        batch.push(DST + 65536 + i * 4096, SRC + 0x1_0000_0000 + i * 8192, 2048);
    }
    let (launch, parameters) = described(&Remaining::new(batch.copies()), None);
    assert_eq!((launch.copies, launch.words), (526, 128 + 128 + 7));
    assert_eq!(segments(&parameters).len(), 3);
    check(&batch);
}

#[test]
fn sources_too_far_apart_for_words_have_addresses() {
    let mut batch = Batch::default();
    for i in 0..100 {
        batch.push(DST + i * 100, SRC + (i % 2) * 0x10_0000_0001, 10 + i % 7);
    }
    let (launch, parameters) = described(&Remaining::new(batch.copies()), None);
    assert_eq!((launch.copies, segments(&parameters)[0].form), (100, 4));
    check(&batch);
    // Of one length: all of them if sources alternate, and the first half if half of them are near
    // each other.
    for (half, first) in [(1, (100, 4)), (50, (50, 0))] {
        let mut batch = Batch::default();
        for i in 0..100 {
            batch.push(DST + i * 100, SRC + i / half % 2 * 0x10_0000_0001, 10);
        }
        let (_, parameters) = described(&Remaining::new(batch.copies()), None);
        assert_eq!((segments(&parameters)[0].copies, segments(&parameters)[0].form), first);
        check(&batch);
    }
}

#[test]
fn many_short_runs_are_one_launch() {
    // Eight rows each, of one length or several: a segment each, and a last one for all others.
    for lengths in [1, 7] {
        let mut batch = Batch::default();
        for i in 0..1000 {
            batch.push(DST + i / 8 * 1000 + i % 8 * 50, SRC + i * 7919 % 100_000, 10 + i / 8 % lengths);
        }
        let mut table = vec![0; TABLE_WORDS];
        let (launch, parameters) = described(&Remaining::new(batch.copies()), Some(&mut table));
        assert_eq!((launch.copies, segments(&parameters).len()), (1000, 16), "{lengths} lengths");
        check(&batch);
    }
}

#[test]
fn a_launch_ends_where_its_room_ends() {
    let mut batch = Batch::default();
    for i in 0..20_000 {
        batch.push(DST + i * 20, SRC + i * 7 % 1000, 1 + i % 19);
    }
    check(&batch);
    let mut batch = Batch::default();
    for i in 0..200_000 {
        batch.push(DST + i, SRC + i * 7 % 100_000, 1);
    }
    check(&batch);
}

#[test]
fn a_row_is_found_by_a_product() {
    let mut state = 9_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32
    };
    let edges = |n: u32| [n.saturating_sub(1), n, n.saturating_add(1)];
    let powers = (0..31).map(|log| 1_u32 << log);
    let divisors: Vec<u32> = powers.flat_map(edges).chain((0..2000).map(|_| random() >> (random() % 31))).collect();
    for by in divisors.into_iter().filter(|&by| by > 0 && by < 1 << 31) {
        let (magic, shift) = division(by);
        let near = (0..200).map(|_| random() / by).flat_map(|q| edges(q.saturating_mul(by)));
        for n in near.chain([0, 1, i32::MAX as u32]).filter(|&n| n < 1 << 31) {
            assert_eq!((u64::from(n) * u64::from(magic)) >> 31 >> shift, u64::from(n / by), "{n} / {by}");
        }
    }
}
