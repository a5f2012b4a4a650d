//! The part in front of the words: segments, and their first blocks.

use core::iter::repeat_n;

use super::{
    super::{
        encode::encode,
        layout::{CHUNKS, Head, PARAMETER_WORDS, Parameters, SEGMENTS, Segment, TABLE_WORDS},
        remaining::{Budget, Remaining},
    },
    Batch, DST, EACH, PAIRS, RAGGED, ROWS_16, SRC, check, described, segments, words_of,
};

/// Parameters of 16 KiB, without a head of 56 bytes and 16 segments of 96.
const MOST: usize = 3698;

/// Segments that begin with blocks 0, 10, 21, 33 and so on.
fn of(count: usize) -> Vec<Segment> {
    let segment =
        |i: u32| Segment { first_block: 10 * i + i * i.saturating_sub(1) / 2, copies: i + 1, ..Segment::default() };
    (0..count as u32).map(segment).collect()
}

/// The first blocks of the second to the fifth.
const NEAR: [u32; 4] = [10, 21, 33, 46];
const NONE: u32 = u32::MAX;

/// The first blocks in the head, for `count` segments.
fn starts(count: usize) -> [u32; 4] {
    match count {
        1 => [NONE; 4],
        2 => [NEAR[0], NONE, NONE, NONE],
        4 => [NEAR[0], NEAR[1], NEAR[2], NONE],
        5.. => NEAR,
        _ => unreachable!(),
    }
}

#[test]
fn words_are_behind_the_segments() {
    assert_eq!((PARAMETER_WORDS, SEGMENTS), (MOST, 16));
    for count in [1, 2, 4, 5, 6, 16] {
        for words in [0, 1, 24, 500, MOST] {
            let mut parameters = Parameters::new();
            parameters.words.fill(0xdead_beef);
            // The rest of an earlier launch.
            (parameters.head.pieces, parameters.head.fetchers, parameters.head.along) = (7, 5, 9);
            let room = parameters.room(words).unwrap();
            assert_eq!(room.len(), words);
            room.iter_mut().zip(1..).for_each(|(word, i)| *word = i);
            parameters.put(&of(count), words);
            let Head { segments: all, along, starts: near, pieces, fetchers, .. } = parameters.head;
            assert_eq!((all as usize, along as usize, pieces, fetchers), (count, words, 0, 0));
            assert_eq!(near, starts(count), "{count} segments");
            for (found, put) in segments(&parameters).iter().zip(of(count)) {
                assert_eq!((found.first_block, found.copies), (put.first_block, put.copies));
            }
            let expected: Vec<u32> = (1..=words as u32).collect();
            assert_eq!(words_of(&parameters)[..words], expected, "{count} segments, {words} words");
            assert_eq!(parameters.bytes(), 56 + 96 * count + 4 * words);
            assert_eq!(parameters.used_words()[14 + 24 * count..], expected);
            assert_eq!(parameters.used_words()[..14].len() + 24 * count + words, parameters.used_words().len());
        }
    }
    let mut parameters = Parameters::new();
    parameters.put(&of(16), MOST);
    assert_eq!(parameters.bytes(), 16384);
}

#[test]
fn there_is_no_room_for_more() {
    let mut parameters = Parameters::new();
    assert_eq!(
        [0, 5, MOST, MOST + 1, usize::MAX].map(|most| parameters.room(most).unwrap().len()),
        [0, 5, MOST, MOST, MOST]
    );
    // What does not fit is not put.
    parameters.put(&of(2), 3);
    let before = parameters;
    for (count, words) in [(1, MOST + 1), (16, MOST + 1), (17, MOST), (1, usize::MAX), (170, 10)] {
        parameters.put(&of(count), words);
        assert_eq!(parameters.used_words(), before.used_words(), "{count} segments, {words} words");
    }
}

#[test]
fn tables_are_fetched_by_blocks_before_all_others() {
    // The words, and how many may be in the parameters; how many are, the pieces of 512 words, and
    // the blocks that fetch them.
    let cases = [
        (1, 0, 0, 1, 1),
        (512, 0, 0, 1, 1),
        (513, 0, 0, 2, 2),
        (16_384, 0, 0, 32, 32),
        (16_385, 0, 0, 33, 32),
        (TABLE_WORDS, 0, 0, 64, 32),
        (TABLE_WORDS, 1, 1, 64, 16),
        (8192, MOST, MOST, 16, 16),
        (8193, MOST + 1, MOST, 17, 16),
        (513, 600, 513, 2, 2),
        (513, 512, 512, 2, 2),
        (0, 10, 0, 0, 0),
    ];
    let table: Vec<u32> = (1..=TABLE_WORDS as u32).collect();
    for (words, most, along, pieces, fetchers) in cases {
        for count in [1, 2, 5, 6, 16] {
            let (mut parameters, mut all) = (Parameters::new(), of(count));
            parameters.words.fill(0xdead_beef);
            parameters.put_table(&mut all, &table[..words], most);
            let head = parameters.head;
            assert_eq!((head.segments as usize, head.along as usize), (count, along));
            assert_eq!((head.pieces, head.fetchers), (pieces, fetchers), "{words} words, {most} along");
            assert_eq!(head.starts, starts(count).map(|start| if start == NONE { NONE } else { start + fetchers }));
            for (found, put) in segments(&parameters).iter().zip(of(count)) {
                assert_eq!((found.first_block, found.copies), (put.first_block + fetchers, put.copies));
            }
            assert_eq!(words_of(&parameters)[..along], table[..along]);
            assert!(words_of(&parameters)[along..].iter().all(|word| *word == 0xdead_beef));
            assert_eq!(parameters.bytes(), 56 + 96 * count + 4 * along);
        }
    }
}

/// `runs` times eight rows of 16 bytes.
fn runs(runs: usize) -> Batch {
    let mut batch = Batch::default();
    for i in 0..runs * 8 {
        batch.push(DST + i / 8 * 1024 + i % 8 * 32, SRC + i * 5 % 8 * 48, 16);
    }
    batch
}

#[test]
fn a_launch_has_sixteen_segments() {
    for count in [1, 2, 4, 5, 6, 15, 16, 17, 33] {
        let batch = runs(count);
        let mut table = vec![0; TABLE_WORDS];
        for table in [None, Some(&mut table)] {
            let in_table = u32::from(table.is_some());
            let (launch, parameters) = described(&Remaining::new(batch.copies()), table);
            let taken = count.min(16);
            assert_eq!((launch.copies, parameters.head.segments as usize), (8 * count, taken));
            // A block each, behind the one that fetches.
            let near = (1..).take(taken - 1).chain(repeat_n(NONE - in_table, 4)).take(4).map(|start| start + in_table);
            assert_eq!(parameters.head.starts.to_vec(), near.collect::<Vec<_>>(), "{count} runs");
            assert_eq!(parameters.bytes(), 56 + 96 * taken + 4 * launch.words);
            // Four words for eight rows. The last segment has all others, with two words each if
            // they are no rows.
            assert_eq!(launch.words, if count > 16 { 60 + 16 * (count - 15) } else { 4 * count });
        }
        check(&batch);
    }
}

#[test]
fn a_launch_has_sixteen_moves() {
    let numbers: Vec<u32> = (0..20).rev().collect();
    for (count, copies) in [(15, 0), (15, 20), (16, 0), (16, 20), (17, 0), (17, 20), (40, 20)] {
        let mut batch = Batch::default();
        for i in 0..count {
            batch.push_gather(DST + i * 1024, SRC, 0, 16, (20, 20), &numbers);
        }
        for i in 0..copies {
            batch.push(DST + 0x10_0000 + i * 32, SRC + i * 7 % 20 * 48, 16);
        }
        let (launch, parameters) = described(&Remaining::new(batch.copies()), None);
        let taken = if count < 16 { copies } else { 0 };
        assert_eq!((launch.gathers, launch.rows, launch.copies), (count.min(16), 0, taken));
        let segments = count.min(16) + usize::from(taken != 0);
        assert_eq!((parameters.head.segments as usize, launch.blocks as usize), (segments, segments));
        check(&batch);
    }
}

#[test]
fn a_few_rows_are_rows_if_they_are_all_there_is() {
    for count in 1..10 {
        let mut batch = Batch::default();
        for i in 0..count {
            batch.push(DST + i * 32, SRC + i * 7 % 10 * 48, 16);
        }
        let (launch, parameters) = described(&Remaining::new(batch.copies()), None);
        assert_eq!((launch.words, segments(&parameters)[0].form), (count.div_ceil(2), ROWS_16), "{count} rows");
        // With one more, the first seven are no run.
        batch.push(DST + 0x1000, SRC, 16);
        let all = segments(&described(&Remaining::new(batch.copies()), None).1);
        let expected = if (2..=7).contains(&count) { PAIRS } else { ROWS_16 };
        assert_eq!((all.len(), all[0].form), (1 + usize::from(count > 7), expected), "{count} rows");
        check(&batch);
    }
}

#[test]
fn the_last_segment_takes_what_is_left() {
    // Fifteen runs, and then rows, some of which are at other places or of other lengths.
    for (rows, others, len, form) in [
        (8, 0, 16, ROWS_16),
        (3, 0, 16, ROWS_16),
        (300, 0, 16, ROWS_16),
        (300, 1, 16, PAIRS),
        (300, 1, 17, RAGGED),
        (9, 9, 17, EACH),
        (1, 0, 16, ROWS_16),
    ] {
        let mut batch = runs(15);
        for i in 0..rows {
            batch.push(DST + 0x10_0000 + i * 32, SRC + i * 7 % 100 * 32, 16);
        }
        for i in 0..others {
            batch.push(DST + 0x12_0000 + i * 33, SRC + i * 7 % 100 * 32, len);
        }
        let (launch, parameters) = described(&Remaining::new(batch.copies()), None);
        let all = segments(&parameters);
        assert_eq!(
            (launch.copies, all.len(), all[15].form),
            (120 + rows + others, 16, form),
            "{rows}, {others}, {len}"
        );
        check(&batch);
    }
}

#[test]
fn parameters_are_filled_to_the_last_word() {
    let rows = |count: usize| {
        let mut batch = Batch::default();
        for i in 0..count {
            batch.push(DST + i * 32, SRC + i * 389 % 1000 * 32, 16);
        }
        batch
    };
    for (count, taken) in [(2 * MOST - 1, 2 * MOST - 1), (2 * MOST, 2 * MOST), (2 * MOST + 1, 2 * MOST)] {
        let batch = rows(count);
        let (launch, parameters) = described(&Remaining::new(batch.copies()), None);
        assert_eq!((launch.copies, launch.words, parameters.head.along as usize), (taken, MOST, MOST));
        check(&batch);
    }
    // Fifteen runs before them, of eight rows in four words each.
    let mut batch = runs(15);
    let left = 2 * (MOST - 60);
    for i in 0..left + 1 {
        batch.push(DST + 0x10_0000 + i * 32, SRC + i * 389 % 1000 * 32, 16);
    }
    let (launch, parameters) = described(&Remaining::new(batch.copies()), None);
    assert_eq!((launch.copies, launch.words), (120 + left, MOST));
    assert_eq!((segments(&parameters)[15].words, segments(&parameters)[15].form), (60, ROWS_16));
    assert_eq!(parameters.bytes(), 16384);
    check(&batch);
    // A budget of fewer words, and of fewer chunks.
    let batch = rows(100);
    let taken =
        |most| encode(&Remaining::new(batch.copies()), &mut Parameters::new(), None, most).map(|launch| launch.copies);
    let most = |words, chunks| taken(Budget { words, chunks });
    assert_eq!(
        [most(10, CHUNKS), most(4, CHUNKS), most(0, CHUNKS), most(usize::MAX, CHUNKS)],
        [Some(20), Some(8), None, Some(100)]
    );
    // A row of 16 bytes may lie in two groups.
    assert_eq!([most(MOST, 0), most(MOST, 1), most(MOST, 2), most(MOST, 200)], [None, None, Some(1), Some(100)]);
    for chunks in 2..200 {
        assert!((chunks / 2..=chunks).contains(&(most(MOST, chunks).unwrap() as u64)), "{chunks} chunks");
    }
}
