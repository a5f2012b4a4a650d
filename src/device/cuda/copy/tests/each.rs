//! Few copies of different lengths, which have a block each.

use super::{
    super::{
        extent::{halves, low},
        layout::{CHUNKS, Segment, THREADS},
        remaining::Remaining,
        run::Run,
    },
    Batch, DST, EACH, OWN, RAGGED, ROWS_16, SRC, check, described, payload, segments,
};

/// The part of the first run of a batch that fits: its copies, segment and words.
fn first(batch: &Batch, room: usize, chunks: u64, in_table: bool, groups: u32) -> (usize, Segment, Vec<u32>) {
    let copies = batch.copies();
    let fits = Run::first(&copies, 100_000, false).unwrap().fit(&copies, room, chunks, in_table, groups).unwrap();
    let (mut segment, mut words) = (fits.segment, vec![0xdead_beef; fits.words]);
    fits.write(&copies, &mut segment, &mut words);
    assert!(fits.words <= room && !fits.plain && u64::from(segment.chunks) <= chunks);
    (fits.copies, segment, words)
}

/// `count` copies of different lengths, apart from each other, one of which is `long` bytes, to
/// `before` bytes behind a multiple of 16.
fn copies(count: usize, long: (usize, usize, usize)) -> Batch {
    let mut batch = Batch::default();
    for i in 0..count {
        let (len, before) = if i == long.0 { (long.1, long.2) } else { (100 + i * i % 37, i % 5) };
        batch.push(DST + 0x8000 * i + before, SRC + 0x8000 * i + i * 3 % 16, len);
    }
    batch
}

/// The same, of which none is long.
fn short(count: usize) -> Batch {
    copies(count, (usize::MAX, 0, 0))
}

#[test]
fn up_to_32_copies_have_a_block_each() {
    for (count, form, words, chunks) in
        [(2, EACH, 10, 512), (31, EACH, 155, 31 * 256), (32, EACH, 160, 32 * 256), (33, RAGGED, 99, 0)]
    {
        let batch = short(count);
        let (copies, segment, own) = first(&batch, 1000, CHUNKS, false, 2);
        assert_eq!((copies, segment.form, own.len()), (count, form, words));
        assert_eq!((segment.copies, segment.unit, segment.words), (count as u32, 0, 0));
        if form == EACH {
            assert_eq!((segment.chunks, segment.staged), (chunks, 0));
        }
        let (launch, parameters) = described(&Remaining::new(batch.copies()), None);
        assert_eq!((launch.copies, launch.words, launch.unit), (count, words, false));
        assert_eq!((parameters.head.segments, launch.shared == 0), (1, form == EACH));
        assert!(form != EACH || launch.blocks == count as u32);
        check(&batch);
    }
}

#[test]
fn their_words_are_two_addresses_and_the_bytes() {
    let batch = short(3);
    let (_, _, words) = first(&batch, 15, CHUNKS, false, 2);
    let mut expected = Vec::new();
    for i in 0..3 {
        for address in [batch.src[i].addr(), batch.dst[i].addr()] {
            expected.extend([address as u32, (address >> 32) as u32]);
        }
        expected.push(batch.len[i] as u32);
    }
    assert_eq!(words, expected);
    assert_eq!(expected[..5], [0x1000, 0x7f00, 0, 0x7f40, 100]);
    let mut two = [0; 2];
    halves(&mut two, 0x1234_5678_9abc_def0);
    assert_eq!((two, low(0x1234_5678_9abc_def0)), ([0x9abc_def0, 0x1234_5678], 0x9abc_def0));
}

#[test]
fn none_is_longer_than_the_chunks_of_a_block() {
    for groups in [2, 4] {
        let block = 16 * (THREADS * groups) as usize;
        for before in 0..16 {
            for (len, form) in [(block - 1, EACH), (block, EACH), (block + 1, RAGGED)] {
                // Whichever copy it is.
                for at in [0, 3, 6] {
                    let batch = copies(7, (at, len - before, before));
                    let (copies, segment, _) = first(&batch, 1000, CHUNKS, false, groups);
                    assert_eq!((copies, segment.form), (7, form), "{len} bytes from {before}, copy {at}");
                }
            }
        }
    }
    for (before, len) in [(0, 4096), (0, 4097), (1, 4095), (1, 4096), (15, 4081), (15, 4082)] {
        check(&copies(7, (3, len, before)));
    }
    // The long one is behind the run, so it does not matter.
    let mut batch = short(5);
    for i in 0..70 {
        batch.push(DST + 0x10_0000 + i * 8000, SRC + i * 7 % 70 * 5000, 5000);
    }
    let (copies, segment, _) = first(&batch, 1000, CHUNKS, false, 2);
    assert_eq!((copies, segment.form), (5, EACH));
}

#[test]
fn they_are_looked_for_where_there_is_no_room() {
    let batch = short(10);
    for in_table in [false, true] {
        // Five words each. The other form needs three each, and in a table two more for the only
        // block.
        for (room, form) in [(50, EACH), (49, RAGGED), (32, RAGGED)] {
            let (copies, segment, _) = first(&batch, room, CHUNKS, in_table, 2);
            assert_eq!((copies, segment.form), (10, form), "{room} words");
        }
        // All the chunks of a block each.
        for (chunks, form) in [(2560, EACH), (2559, RAGGED), (100, RAGGED)] {
            let (copies, segment, _) = first(&batch, 1000, chunks, in_table, 2);
            assert_eq!((copies, segment.form), (10, form), "{chunks} chunks");
        }
        for (chunks, form) in [(5120, EACH), (5119, RAGGED)] {
            assert_eq!(first(&batch, 1000, chunks, in_table, 4).1.form, form, "{chunks} chunks");
        }
    }
    // Fewer copies if even those do not fit.
    let (copies, segment, _) = first(&batch, 20, CHUNKS, false, 2);
    assert_eq!((copies, segment.form), (6, RAGGED));
}

#[test]
fn they_are_beside_others_in_parameters_and_in_a_table() {
    let mut batch = Batch::default();
    let rows = |batch: &mut Batch, at: usize, count: usize| {
        for i in 0..count {
            batch.push(DST + at + i * 64, SRC + i * 7 % count * 96, 48);
        }
    };
    let odd = |batch: &mut Batch, at: usize, count: usize| {
        for i in 0..count {
            batch.push(DST + at + i * 4200 + i % 16, SRC + i * 311, 4080 - i * i % 50);
        }
    };
    rows(&mut batch, 0, 100);
    odd(&mut batch, 0x2_0000, 32);
    rows(&mut batch, 0x6_0000, 80);
    odd(&mut batch, 0x8_0000, 20);
    // 300 and 240 chunks of rows are two blocks and one; the copies have one each.
    let (forms, starts) = ([ROWS_16, EACH, ROWS_16, EACH], [0, 2, 34, 35]);
    let (launch, parameters) = described(&Remaining::new(batch.copies()), None);
    let all = segments(&parameters);
    assert_eq!(all.iter().map(|segment| segment.form).collect::<Vec<_>>(), forms);
    assert_eq!(all.iter().map(|segment| segment.first_block).collect::<Vec<_>>(), starts);
    assert_eq!(all.iter().map(|segment| segment.words).collect::<Vec<_>>(), [0, 50, 50 + 160, 50 + 160 + 40]);
    assert_eq!((launch.words, launch.blocks), (50 + 160 + 40 + 100, 55));
    let mut table = vec![0; 1000];
    let (launch, parameters) = described(&Remaining::new(batch.copies()), Some(&mut table));
    assert_eq!(segments(&parameters).iter().map(|segment| segment.form).collect::<Vec<_>>(), forms);
    // A piece of 350 words is fetched by a block.
    assert_eq!((launch.blocks, parameters.head.fetchers, parameters.head.starts), (55, 1, [3, 35, 36, u32::MAX]));
    check(&batch);
    let (launch, parameters) = payload::check_with(&batch, &[9, 30]).unwrap();
    assert_eq!(
        segments(&parameters).iter().map(|segment| segment.form).collect::<Vec<_>>(),
        [OWN, ROWS_16, EACH, ROWS_16, EACH]
    );
    assert_eq!((launch.blocks, parameters.head.starts), (57, [2, 4, 36, 37]));
}
