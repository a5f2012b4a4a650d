//! Copies of different lengths: how many fit, and their words, at the limits.

use core::iter::repeat_n;

use proptest::prelude::*;

use super::{
    super::{
        layout::{CHUNKS, Segment, THREADS},
        run::Run,
    },
    Batch, DST, SRC, check,
};

/// The chunks of a block.
const TILE: u64 = 2 * THREADS as u64;

/// The part of the first run of a batch that fits: its copies, segment and words.
fn first(batch: &Batch, room: usize, chunks: u64, in_table: bool) -> Option<(usize, Segment, Vec<u32>)> {
    let copies = batch.copies();
    let fits = Run::first(&copies, 100_000, false)?.fit_ragged(&copies, room, chunks, in_table, 2)?;
    let (mut segment, mut words) = (fits.segment, vec![0xdead_beef; fits.words]);
    assert!(fits.words <= room && !fits.plain && segment.form > 2);
    fits.write(&copies, &mut segment, &mut words);
    Some((fits.copies, segment, words))
}

/// Aligned copies of `chunks` chunks each, one behind the other.
fn aligned(chunks: &[usize]) -> Batch {
    let mut batch = Batch::default();
    let mut to = DST;
    for (i, chunks) in chunks.iter().enumerate() {
        batch.push(to, SRC + i * i * 0x1_0000, chunks * 16);
        to += chunks * 16;
    }
    batch
}

#[test]
fn blocks_begin_with_the_copy_that_has_their_first_chunk() {
    // Blocks begin with chunks 0, 256, 512 and 768: the first three are the first ones of copies.
    let batch = aligned(&[100, 156, 256, 255, 1, 10]);
    let (copies, segment, words) = first(&batch, 1000, CHUNKS, true).unwrap();
    assert_eq!((copies, segment.chunks, segment.owners, segment.words), (6, 778, 0, 5));
    assert_eq!(words[..5], [0, 2, 3, 5, 5]);
    assert_eq!(words[5..11], [0, 100, 256, 512, 767, 768].map(|chunk| chunk * 16));
    // Two copies begin in a block, one may reach into it, and one may begin with the next block.
    assert_eq!(segment.staged, 4);
    let (_, in_parameters, own) = first(&batch, 1000, CHUNKS, false).unwrap();
    assert_eq!((in_parameters.words, in_parameters.staged), (0, 4));
    assert_eq!(own, words[5..]);
    check(&batch);

    // A copy of 20 blocks, and then two that begin in one: chunks 1 to 5120, 5121 to 5123, and 5124
    // to 5891.
    let batch = aligned(&[1, 256 * 20, 3, 256 * 3]);
    let (_, segment, words) = first(&batch, 1000, CHUNKS, true).unwrap();
    assert_eq!((segment.chunks, segment.words, segment.staged), (5892, 25, 4));
    assert_eq!(words[..25], [vec![0], vec![1; 20], vec![3; 4]].concat());
    check(&batch);

    // Around the number of owners that are written at once: copies of 7, 8 and 9 blocks.
    let batch = aligned(&[256 * 7, 256 * 8, 256 * 9, 5, 256 * 8 - 5, 256 * 8]);
    let (_, _, words) = first(&batch, 1000, CHUNKS, true).unwrap();
    let owners = [(0, 7), (1, 8), (2, 9), (3, 1), (4, 7), (5, 9)];
    assert_eq!(words[..41], owners.map(|(copy, blocks)| vec![copy; blocks]).concat());
    check(&batch);
}

#[test]
fn the_bytes_behind_a_copy_are_in_its_word() {
    let mut batch = Batch::default();
    batch.push(DST + 5, SRC, 11);
    batch.push(DST + 21, SRC + 100, 12);
    batch.push(DST + 48, SRC + 203, 1);
    let (copies, _, words) = first(&batch, 9, CHUNKS, false).unwrap();
    // The first ends with its group; the second ends a byte into the next one; the third has one
    // byte of a group.
    assert_eq!((copies, &words[..3]), (3, &[0, 16 + 15, 3 * 16 + 15][..]));
    check(&batch);
}

#[test]
fn a_run_ends_where_its_room_does() {
    // One chunk each, and two words for the blocks: the first one, and the last copy.
    let mut batch = Batch::default();
    for i in 0..10 {
        batch.push(DST + 16 * i, SRC + 48 * i, 16 - i % 3);
    }
    let copies = |room, in_table| first(&batch, room, CHUNKS, in_table).map(|(copies, ..)| copies);
    for (room, here, in_table) in
        [(0, 0, 0), (2, 0, 0), (3, 1, 0), (4, 1, 0), (5, 1, 1), (8, 2, 2), (17, 5, 5), (31, 10, 9)]
    {
        assert_eq!(copies(room, false).unwrap_or(0), here);
        assert_eq!(copies(room, true).unwrap_or(0), in_table);
    }
    // No words describe no run.
    let run = Run::first(&batch.copies(), 0, false);
    assert!(run.is_none_or(|run| run.fit(&batch.copies(), 0, CHUNKS, false, 2).is_none()));
    // Copies of four and three chunks: the first is too long, or the second.
    let batch = aligned(&[4, 3]);
    for (chunks, copies) in [(0, None), (3, None), (4, Some(1)), (6, Some(1)), (7, Some(2))] {
        assert_eq!(first(&batch, 100, chunks, false).map(|(copies, ..)| copies), copies);
    }
}

#[test]
fn copies_too_far_apart_have_addresses_if_there_is_room_for_them() {
    // 100 copies, of which source `far` is further from the others than 32 bits of units reach.
    let far_at = |far: usize| {
        let mut batch = Batch::default();
        for i in 0..100 {
            batch.push(DST + 100 * i, SRC + 7 * i + if i == far { 0x1_0000_1000 } else { 0 }, 10 + i % 7);
        }
        batch
    };
    let described =
        |batch: &Batch, room| first(batch, room, CHUNKS, false).map(|(n, h, words)| (n, h.form, words.len()));
    assert_eq!(described(&far_at(1), 500), Some((100, 4, 500)));
    assert_eq!(described(&far_at(1), 499), Some((99, 4, 495)));
    assert_eq!(described(&far_at(0), 300), Some((60, 4, 300)));
    assert_eq!(described(&far_at(1), 9), Some((1, 3, 3)));
    // The copies that fit are near each other without it.
    assert_eq!(described(&far_at(99), 300), Some((60, 3, 180)));
    assert_eq!(described(&far_at(99), 299), Some((99, 3, 297)));
    [0, 1, 50, 99].iter().for_each(|&far| check(&far_at(far)));

    // Neighbours on both sides of a border of 4 GiB are near, and a distance of 32 bits fits; one
    // more does not.
    for base in [0x7eff_ffff_ffff, 0x7f00_ffff_ffff] {
        for (apart, form) in [(3, 3), (0xffff_ffff, 3), (0x1_0000_0000, 4)] {
            let mut batch = Batch::default();
            for (i, at) in [0, apart, 1, 2].into_iter().enumerate() {
                batch.push(DST + 100 * i, base + at, 10 + i);
            }
            assert_eq!(first(&batch, 100, CHUNKS, true).map(|(n, h, _)| (n, h.form)), Some((4, form)));
            check(&batch);
        }
    }
}

#[test]
fn rows_begin_a_run_of_their_own_if_they_are_many() {
    for before in (2..40).chain([63, 64, 65, 95, 96, 97, 150]) {
        // The last of the others is as long as a row, or as far from the first row as rows are from
        // each other; then the second row continues it, and not only the third one the first two.
        for (same_len, enough) in [(true, 66), (false, 65)] {
            for rows in [enough - 1, enough, enough + 1, 300] {
                let mut batch = Batch::default();
                for i in 0..before {
                    let last = i + 1 == before;
                    let len = if last { if same_len { 32 } else { 31 } } else { 10 + i * i % 17 };
                    let at = if last && same_len { i * 64 + 5 } else { i * 64 };
                    batch.push(DST + at, SRC + i * i * 16, len);
                }
                for i in 0..rows {
                    batch.push(DST + (before + i) * 64, SRC + i * i * 32, 32);
                }
                // Copies behind it change nothing.
                for i in 0..before % 5 {
                    batch.push(DST + (before + rows) * 64 + i * 100, SRC + i * i * 16, 10 + i * i % 17);
                }
                let expected = if rows >= enough { before } else { batch.len.len() };
                assert_eq!(first(&batch, 4000, CHUNKS, false).unwrap().0, expected, "{before}, {rows}, {same_len}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// As many as fit, added one by one.
    #[test]
    fn a_run_takes_as_many_copies_as_there_is_room_for(
        lens in prop::collection::vec((1..9_usize, 0..12_u32, 0..40_usize), 3..600),
        room in 0..2500_usize,
        chunks in prop_oneof![Just(CHUNKS), 0..3000_u64],
        in_table: bool,
    ) {
        let mut batch = Batch::default();
        let mut to = DST;
        for (i, &(len, log, gap)) in lens.iter().enumerate() {
            // No row continues another one.
            let len = (len << log) + i % 2;
            to += gap + i % 3;
            batch.push(to, SRC + i * 1003 % 60_000, len);
            to += len;
        }
        let (mut all, mut begun, mut expected) = (0, Vec::new(), 0);
        let mut begin_in = [0; 4096];
        for (i, (dst, len)) in batch.dst.iter().zip(&batch.len).enumerate() {
            let touched = (dst.addr() + len - 1) / 16 - dst.addr() / 16 + 1;
            let next = all + touched as u64;
            let owners = if in_table { next as usize / TILE as usize + 2 } else { 0 };
            if next > chunks || owners + 3 * (i + 1) > room {
                break;
            }
            begin_in[(all / TILE) as usize] += 1;
            begun.extend(repeat_n(i as u32, (next.div_ceil(TILE) - all.div_ceil(TILE)) as usize));
            (all, expected) = (next, i + 1);
        }
        match first(&batch, room, chunks, in_table) {
            None => prop_assert_eq!(expected, 0),
            Some((copies, segment, words)) => {
                prop_assert_eq!((copies, u64::from(segment.chunks), segment.form), (expected, all, 3));
                // One may reach into the block, and one may begin with the next.
                prop_assert_eq!(segment.staged, 2 + begin_in.into_iter().max().unwrap());
                if in_table {
                    begun.push(expected as u32 - 1);
                    prop_assert_eq!(&words[..begun.len()], &begun[..]);
                    prop_assert_eq!(words.len(), begun.len() + 3 * expected);
                }
            }
        }
    }
}
