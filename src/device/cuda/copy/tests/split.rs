//! The first part of a batch on an idle stream: when there is one, and its size.

use super::{
    super::{
        encode::encode,
        layout::{CHUNKS, PARAMETER_WORDS},
        remaining::{Budget, Remaining},
        split::FirstPart,
    },
    Batch, DST, Parameters, SRC,
};

/// `rows` rows of `width` bytes each, and `count` copies of `bytes` bytes each.
fn batch((rows, width): (usize, usize), (count, bytes): (usize, usize)) -> Batch {
    let mut batch = Batch::default();
    if rows != 0 {
        let numbers: Vec<u32> = (0..rows as u32).rev().collect();
        batch.push_gather(DST, SRC, 0, width, (rows as u32, rows as u32), &numbers);
    }
    for i in 0..count {
        batch.push(DST + 0x40_0000_0000 + i * bytes * 2, SRC + i * 7 * bytes, bytes);
    }
    batch
}

/// The first part on an idle stream: chunks in parameters, the least bytes, and chunks in a table.
fn part(batch: &Batch, bytes: usize) -> Option<(u64, usize, u64)> {
    let first = FirstPart::of(&Remaining::new(batch.copies()), true, bytes)?;
    assert_eq!((first.most.words, first.in_table.words), (PARAMETER_WORDS, PARAMETER_WORDS));
    Some((first.most.chunks, first.least, first.in_table.chunks))
}

/// `count` copies, an even number, that are a byte longer and shorter than `bytes` by turns.
fn differing(count: usize, bytes: usize) -> Batch {
    let mut batch = batch((0, 0), (count, bytes));
    batch.len.iter_mut().enumerate().for_each(|(i, len)| *len = bytes + 1 - i % 2 * 2);
    batch
}

#[test]
fn a_batch_has_a_first_part_from_2048_copies_on() {
    let is_part = |batch: Batch| {
        assert!(FirstPart::of(&Remaining::new(batch.copies()), false, 0).is_none(), "the stream is not idle");
        part(&batch, 0).is_some()
    };
    assert_eq!([0, 2, 2046, 2048].map(|count| is_part(differing(count, 100))), [false, false, false, true]);
    let mut odd = differing(2048, 100);
    odd.len.pop();
    assert!(!is_part(odd), "2047");
    // A row counts as a quarter of a copy.
    for (rows, count, expected) in [
        (8191, 0, false),
        (8192, 0, true),
        (4095, 1024, false),
        (4096, 1024, true),
        (8188, 0, false),
        (8188, 1, true),
        (8187, 1, false),
        (1640, 1637, false),
        (1640, 1638, true),
    ] {
        assert_eq!(is_part(batch((rows, 100), (count, 100))), expected, "{rows} rows, {count} copies");
    }
    // Batches of copies of one length have no first part, nor do those with at least as many such
    // copies as rows.
    for (rows, count) in [(0, 2048), (0, 100_000), (4, 2047), (2000, 2000), (4096, 4096)] {
        assert!(!is_part(batch((rows, 100), (count, 100))), "{rows} rows, {count} copies");
    }
    assert!(is_part(batch((4097, 100), (4096, 100))));
}

#[test]
fn a_first_part_is_a_share_of_all() {
    const MIB: usize = 1 << 20;
    // A third of 2 MiB of copies of different lengths, half of which is worth it; also in a table.
    assert_eq!(part(&differing(2048, 1024), 0), Some((43_690, 349_525, 43_690)));
    // An eighth of 2 MiB of rows, and in a table a third; also with nearly as many copies.
    assert_eq!(part(&batch((8192, 256), (0, 0)), 0), Some((16_384, MIB / 8, 43_690)));
    assert_eq!(part(&batch((4097, 256), (4096, 256)), 0), Some((16_386, 131_088, 43_696)));
    // Different lengths count among the first eight copies only, and if no gathers come before
    // them.
    let differing_at = |at: usize| {
        let mut batch = batch((0, 0), (2048, 1024));
        batch.len[at] = 1023;
        batch.len[at + 1] = 1025;
        part(&batch, 0).map(|part| part.0)
    };
    assert_eq!([0, 6, 7, 8].map(differing_at), [Some(43_690), Some(43_690), Some(43_690), None]);
}

#[test]
fn a_first_part_has_so_many_bytes_and_is_half_of_all_at_most() {
    // 2 MiB, a third of which is 699,050 bytes, and one byte more.
    let mut all = differing(2048, 1024);
    for more in [0, 1] {
        all.len[2000] += more;
        assert_eq!(part(&all, 699_040), Some((43_690, 349_525, 43_690)));
        assert_eq!(part(&all, 699_056), Some((43_691, 349_528, 43_691)));
        assert_eq!(part(&all, 1 << 20), Some((1 << 16, 1 << 19, 1 << 16)));
        assert_eq!(part(&all, (1 << 20) + 1), None);
        assert_eq!(part(&all, usize::MAX), None);
    }
    all.len[2000] += 1;
    assert_eq!(part(&all, (1 << 20) + 1), Some((1 << 16, 1 << 19, 1 << 16)));
    // Of 2 MiB of rows a sixteenth at least, a fifth, and nearly half.
    let rows = batch((8192, 256), (0, 0));
    assert_eq!(part(&rows, 1 << 17), Some((16_384, 1 << 17, 43_690)));
    assert_eq!(part(&rows, 419_430), Some((26_214, 209_715, 43_690)));
    assert_eq!(part(&rows, (1 << 20) - 16), Some((65_535, (1 << 19) - 8, 65_535)));
    // The most of one launch, out of 16 GiB.
    let large = differing(2048, 8 << 20);
    assert_eq!(part(&large, 0), Some((CHUNKS, (16 << 30) / 6, CHUNKS)));
    assert_eq!(part(&large, 8 << 30), Some((CHUNKS, 4 << 30, CHUNKS)));
    assert_eq!(part(&large, (8 << 30) + 1), None);
}

#[test]
fn moves_that_only_the_device_knows_do_not_count_as_rows() {
    let mut batch = batch((8192, 100), (0, 0));
    assert!(part(&batch, 0).is_some());
    batch.gathers[0].device = core::ptr::without_provenance(SRC);
    batch.gathers[0].numbers = None;
    assert!(part(&batch, 0).is_none());
}

#[test]
fn what_a_launch_takes_is_counted_in_rows_copies_and_bytes() {
    let mut batch = batch((100, 7), (50, 11));
    batch.push_gather(DST + 0x1000, SRC, 0, 9, (100, 100), &[3; 40]);
    let rest = Remaining::new(batch.copies());
    assert_eq!((rest.row_count() + rest.copy_count(), rest.all_bytes()), (190, 700 + 360 + 550));
    let take = |rest: &Remaining<'_>, words, chunks| {
        encode(rest, &mut Parameters::new(), None, Budget { words, chunks }).unwrap()
    };
    // Two rows per word: a part of the first gather, then the rest of it and a part of the second,
    // then copies.
    let launch = take(&rest, 30, CHUNKS);
    assert_eq!((launch.gathers, launch.rows, launch.copies), (0, 60, 0));
    assert_eq!((rest.taken(&launch), rest.bytes(&launch)), (60, 420));
    let behind = rest.behind(&launch).unwrap();
    assert_eq!((behind.row_count() + behind.copy_count(), behind.all_bytes()), (130, 280 + 360 + 550));
    let launch = take(&behind, 35, CHUNKS);
    assert_eq!((launch.gathers, launch.rows, launch.copies), (1, 30, 0));
    assert_eq!((behind.taken(&launch), behind.bytes(&launch)), (70, 280 + 270));
    let behind = behind.behind(&launch).unwrap();
    assert_eq!((behind.row_count() + behind.copy_count(), behind.all_bytes()), (60, 90 + 550));
    let launch = take(&behind, 15, CHUNKS);
    assert_eq!((launch.gathers, launch.rows, launch.copies), (1, 0, 20));
    assert_eq!((behind.taken(&launch), behind.bytes(&launch)), (30, 90 + 220));
    let behind = behind.behind(&launch).unwrap();
    assert_eq!((behind.row_count() + behind.copy_count(), behind.all_bytes(), behind.is_empty()), (30, 330, false));
    let launch = take(&behind, 15, CHUNKS);
    assert_eq!((behind.taken(&launch), behind.bytes(&launch)), (30, 330));
    assert!(behind.behind(&launch).unwrap().is_empty());
}

#[test]
fn what_exceeds_parameters_is_seen_by_how_many_there_are() {
    let exceeds = |batch: &Batch| Remaining::new(batch.copies()).exceeds_parameters();
    // Two rows per word, or three words per copy.
    for (rows, count) in [(0, 7396), (7396, 0), (7000, 396)] {
        assert!(!exceeds(&batch((rows, 8), (count, 8))));
        assert!(exceeds(&batch((rows + usize::from(rows != 0), 8), (count + usize::from(rows == 0), 8))));
    }
    for (count, is) in [(1232, false), (1233, true)] {
        let mut batch = batch((0, 0), (count, 8));
        batch.len[1] = 7;
        assert_eq!(exceeds(&batch), is);
    }
}
